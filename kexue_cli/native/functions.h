// Functions of one register of 16 float32 numbers that several kernels need.
#pragma once

#include <immintrin.h>

#include <initializer_list>

namespace {

// exp(x) to about one unit in the last place (Cephes' polynomial), x cut to [-87, 88]; a NaN goes through.
inline __m512 exponential(__m512 x) {
  const auto all = [](float value) { return _mm512_set1_ps(value); };
  x = _mm512_min_ps(all(88.0f), _mm512_max_ps(all(-87.0f), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, all(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, all(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, all(-2.12194440e-4f), r);
  __m512 p = all(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm512_fmadd_ps(p, r, all(c));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, all(1.0f)));
  return _mm512_scalef_ps(p, n);
}

inline __m512 reciprocal(__m512 value) {  // an estimate of 14 bits and one step of Newton's
  const __m512 first = _mm512_rcp14_ps(value);
  return _mm512_mul_ps(first, _mm512_fnmadd_ps(value, first, _mm512_set1_ps(2.0f)));
}

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return reciprocal(_mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

}  // namespace
