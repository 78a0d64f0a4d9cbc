// Dropout by numbers that follow from a key and a counter: the backward pass draws the same again, whoever computes it.
#pragma once

#include "../../../native/formats.h"

namespace {

struct Dropout {
  uint32_t key[2];
  uint32_t threshold;  // dropped is what has 16 random bits below it
  float scale;         // of what is kept
};

// 16 hashes of 32 bits of neighbouring counters ("lowbias32" of C. Wellons, the key added before each round)
inline __m512i random_bits(const Dropout& dropout, uint32_t counter) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  __m512i h = _mm512_add_epi32(_mm512_set1_epi32(counter * kLanes + dropout.key[0]), lane);
  h = _mm512_mullo_epi32(_mm512_xor_si512(h, _mm512_srli_epi32(h, 16)), _mm512_set1_epi32(0x7feb352d));
  h = _mm512_add_epi32(_mm512_xor_si512(h, _mm512_srli_epi32(h, 15)), _mm512_set1_epi32(dropout.key[1]));
  h = _mm512_mullo_epi32(_mm512_xor_si512(h, _mm512_srli_epi32(h, 15)), _mm512_set1_epi32(0x846ca68b));
  return _mm512_xor_si512(h, _mm512_srli_epi32(h, 16));
}

inline uint32_t kept_of_32(const Dropout& dropout, uint32_t counter) {
  if (dropout.threshold == 0) return ~0u;
  return _mm512_cmpge_epu16_mask(random_bits(dropout, counter), _mm512_set1_epi16(dropout.threshold));
}

inline __m512 factors(const Dropout& dropout, uint32_t kept, int half) {  // of 16 of the 32
  return _mm512_maskz_mov_ps(__mmask16(kept >> half * kLanes), _mm512_set1_ps(dropout.scale));
}

}  // namespace
