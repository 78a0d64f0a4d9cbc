// Functions of one register of 16 float32 numbers.
#pragma once

#include "../../../native/functions.h"

namespace {

enum Activation { kLinear = 0, kRelu = 1, kTanh = 2 };

constexpr float kLog2E = 1.44269504f;

// 2^t, relative error 2e-7: 2^floor(t) times a polynomial for the rest in [0, 1), which is least off at its worst and 1
// at 0; a NaN goes through
inline __m512 power_of_two(__m512 t) {
  const __m512 rest = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(1.867131933e-3f);
  for (float c : {9.017025969e-3f, 5.579991648e-2f, 2.401644492e-1f, 6.931513119e-1f, 1.f})
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, t);
}

inline __m512 tanh_of(__m512 value) {  // 1 - 2 / (1 + exp(2 value)); from 9 on it is 1 in float32
  const __m512 one = _mm512_set1_ps(1.f), two = _mm512_set1_ps(2.f);
  const __m512 t = _mm512_min_ps(_mm512_set1_ps(40.f), _mm512_mul_ps(value, _mm512_set1_ps(2 * kLog2E)));
  return _mm512_fnmadd_ps(two, reciprocal(_mm512_add_ps(one, power_of_two(t))), one);
}

inline __m512 activated(int activation, __m512 value) {
  if (activation == kRelu) return _mm512_max_ps(_mm512_setzero_ps(), value);  // the order lets a NaN through
  return activation == kTanh ? tanh_of(value) : value;
}

inline __m512 derivative(int activation, __m512 result) {  // from the result of the activation
  const __m512 one = _mm512_set1_ps(1.f);
  if (activation == kTanh) return _mm512_fnmadd_ps(result, result, one);
  if (activation == kLinear) return one;
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(result, _mm512_setzero_ps(), _CMP_GT_OQ), one);
}

}  // namespace
