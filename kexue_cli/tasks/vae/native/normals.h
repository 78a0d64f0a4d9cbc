// Normal random numbers that depend on a seed and their place alone: Philox 4x32-10 (Salmon et al. 2011) and the
// transform of Box and Muller (1958).
#pragma once

#include <cstdint>

#include "elementwise.h"

namespace {

constexpr int kNormals = 4 * kLanes;  // that are made together

struct Words {  // of 16 counters
  __m512i v[4];
};

// both halves of the products of 16 numbers with one
inline void multiply_wide(__m512i a, uint32_t by, __m512i& high, __m512i& low) {
  const __m512i factor = _mm512_set1_epi64(by);
  const __m512i even = _mm512_mul_epu32(a, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
  high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
  low = _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
}

inline __m512i exclusive_or(__m512i a, __m512i b, uint32_t c) {
  return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi32(int(c)), 0x96);
}

// the words of the counters 16 block .. 16 block + 15, whose upper 64 bits are 0
inline Words philox(uint64_t seed, uint64_t block) {
  uint32_t keys[2] = {uint32_t(seed), uint32_t(seed >> 32)};
  const uint64_t counter = block * kLanes;
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  Words w{_mm512_add_epi32(_mm512_set1_epi32(int(uint32_t(counter))), lanes), _mm512_set1_epi32(int(counter >> 32))};
  for (int round = 0; round < 10; ++round) {
    __m512i high[2], low[2];
    multiply_wide(w.v[0], 0xd2511f53u, high[0], low[0]);
    multiply_wide(w.v[2], 0xcd9e8d57u, high[1], low[1]);
    w = {exclusive_or(high[1], w.v[1], keys[0]), low[1], exclusive_or(high[0], w.v[3], keys[1]), low[0]};
    keys[0] += 0x9e3779b9u, keys[1] += 0xbb67ae85u;
  }
  return w;
}

inline __m512 logarithm(__m512 x) {  // of positive numbers, relative error 2e-7; near 1 too
  const __m512 one = _mm512_set1_ps(1.f), part = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
  const __m512 floor = _mm512_getexp_ps(x);
  const __m512 exponent = _mm512_mask_add_ps(floor, _mm512_cmp_ps_mask(part, one, _CMP_LT_OQ), floor, one);
  const __m512 rest = _mm512_sub_ps(part, one);
  const __m512 slope = polynomial(rest, {-6.646058982e-2f, 1.413186477e-1f, -1.73722221e-1f, 2.010803359e-1f,
                                         -2.497679094e-1f, 3.332976462e-1f, -5.000021527e-1f, 1.000000147f});
  return _mm512_fmadd_ps(exponent, _mm512_set1_ps(0.693147181f), _mm512_mul_ps(rest, slope));
}

// two normal numbers of two words: sqrt(-2 log u) times cosine and sine of 2 pi v
inline void box_muller(__m512i u, __m512i v, __m512& first, __m512& second) {
  const auto all = [](float value) { return _mm512_set1_ps(value); };
  const __m512 uniform = _mm512_fmadd_ps(_mm512_cvtepu32_ps(u), all(0x1p-32f), all(0x1p-33f));  // in (0, 1]
  const __m512 square = _mm512_mul_ps(all(-2.f), logarithm(uniform));
  const __m512 length = _mm512_sqrt_ps(_mm512_max_ps(_mm512_setzero_ps(), square));
  // 30 bits are an angle within an eighth of a turn, one exchanges sine and cosine, one is their sign
  const __m512 turn = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_slli_epi32(v, 2)), all(0x1p-34f));
  const __m512 t = _mm512_mul_ps(turn, turn);
  const __m512 cosine = polynomial(t, {-8.355259085e1f, 6.492030635e1f, -1.97391466e1f, 1.f});
  const __m512 sine =
      _mm512_mul_ps(turn, polynomial(t, {-7.539356283e1f, 8.159235357e1f, -4.134166145e1f, 6.283185287f}));
  const __mmask16 exchange = _mm512_test_epi32_mask(v, _mm512_set1_epi32(1 << 30));
  const __m512i sign = _mm512_and_si512(v, _mm512_set1_epi32(int(1u << 31)));
  const __m512 signed_length = _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(length), sign));
  first = _mm512_mul_ps(signed_length, _mm512_mask_mov_ps(cosine, exchange, sine));
  second = _mm512_mul_ps(signed_length, _mm512_mask_mov_ps(sine, exchange, cosine));
}

inline void normals(uint64_t seed, uint64_t block, __m512 (&found)[4]) {
  const Words w = philox(seed, block);
  box_muller(w.v[0], w.v[1], found[0], found[1]);
  box_muller(w.v[2], w.v[3], found[2], found[3]);
}

}  // namespace
