// Functions of one register of 16 float32 numbers.
#pragma once

#include "../../../native/functions.h"

namespace {

enum Activation { kLinear = 0, kRelu = 1, kTanh = 2 };

// exp(y) for y <= 0, relative error about 1e-7: 2^n times a polynomial for the rest in [-1/2, 1/2]
inline __m512 exp_of_negative(__m512 y) {
  const __m512 scaled = _mm512_mul_ps(y, _mm512_set1_ps(1.44269504f));
  const __m512 n = _mm512_roundscale_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), y);
  rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), rest);
  __m512 p = _mm512_set1_ps(1.f / 720);
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.f / 120));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.f / 24));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.f / 6));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(p, n);
}

inline __m512 tanh_of(__m512 value) {  // (1 - e) / (1 + e) with e = exp(-2 |value|), and the sign of value
  const __m512 one = _mm512_set1_ps(1.f), sign_bit = _mm512_set1_ps(-0.f);
  const __m512 e = exp_of_negative(_mm512_mul_ps(_mm512_abs_ps(value), _mm512_set1_ps(-2.f)));
  const __m512 size = _mm512_mul_ps(_mm512_sub_ps(one, e), reciprocal(_mm512_add_ps(one, e)));
  return _mm512_or_ps(size, _mm512_and_ps(value, sign_bit));
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
