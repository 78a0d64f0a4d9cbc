// Functions of one register of 16 float32 numbers.
#pragma once

#include "../../../native/functions.h"

namespace {

enum Activation { kLinear = 0, kRelu = 1, kTanh = 2 };

constexpr float kLog2E = 1.44269504f;

// How many digits a function needs. kCoarse: three more than bfloat16 has.
enum Digits { kFine, kCoarse };

template <int N>
inline __m512 polynomial(__m512 x, const float (&coefficients)[N]) {  // of the highest power first
  __m512 sum = _mm512_set1_ps(coefficients[0]);
  for (int i = 1; i < N; ++i) sum = _mm512_fmadd_ps(sum, x, _mm512_set1_ps(coefficients[i]));
  return sum;
}

// 2^t, relative error 2e-7 or, coarse, 3e-6: 2^floor(t) times a polynomial for the rest in [0, 1), which is least off at
// its worst and 1 at 0; a NaN goes through
template <Digits kDigits = kFine>
inline __m512 power_of_two(__m512 t) {
  const __m512 rest = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p;
  if constexpr (kDigits == kFine)
    p = polynomial(rest, {1.867131933e-3f, 9.017025969e-3f, 5.579991648e-2f, 2.401644492e-1f, 6.931513119e-1f, 1.f});
  else
    p = polynomial(rest, {1.342668428e-2f, 5.22424742e-2f, 2.412802048e-1f, 6.930448449e-1f, 1.f});
  return _mm512_scalef_ps(p, t);
}

// fine: 1 - 2 / (1 + exp(2 value)), which from 9 on is 1 in float32; coarse, relative error 1e-4: a rational function of
// [-5, 5]
template <Digits kDigits = kFine>
inline __m512 tanh_of(__m512 value) {
  if constexpr (kDigits == kFine) {
    const __m512 one = _mm512_set1_ps(1.f), two = _mm512_set1_ps(2.f);
    const __m512 t = _mm512_min_ps(_mm512_set1_ps(40.f), _mm512_mul_ps(value, _mm512_set1_ps(2 * kLog2E)));
    return _mm512_fnmadd_ps(two, reciprocal(_mm512_add_ps(one, power_of_two(t))), one);
  }
  // the order of both lets a NaN through
  const __m512 x = _mm512_max_ps(_mm512_set1_ps(-5.f), _mm512_min_ps(_mm512_set1_ps(5.f), value));
  const __m512 square = _mm512_mul_ps(x, x);
  const __m512 above = polynomial(square, {6.705681748e-4f, 1.024177833e-1f, 9.999480514e-1f});
  const __m512 below = polynomial(square, {1.281991526e-2f, 4.354325888e-1f, 1.f});
  return _mm512_mul_ps(_mm512_mul_ps(x, above), reciprocal(below));
}

template <Digits kDigits = kFine>
inline __m512 activated(int activation, __m512 value) {
  if (activation == kRelu) return _mm512_max_ps(_mm512_setzero_ps(), value);  // the order lets a NaN through
  return activation == kTanh ? tanh_of<kDigits>(value) : value;
}

inline __m512 derivative(int activation, __m512 result) {  // from the result of the activation
  const __m512 one = _mm512_set1_ps(1.f);
  if (activation == kTanh) return _mm512_fnmadd_ps(result, result, one);
  if (activation == kLinear) return one;
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(result, _mm512_setzero_ps(), _CMP_GT_OQ), one);
}

}  // namespace
