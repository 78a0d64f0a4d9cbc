// A 16 x 16 matrix of 32-bit units in registers, rows for columns.
#pragma once

#include <immintrin.h>

namespace {

inline void transpose(__m512i (&block)[16]) {
  __m512i pairs[16], quads[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(block[i], block[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(block[i], block[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + 2 + j]);
      quads[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + 2 + j]);
    }
  // quads[4 i + j], its quarter l: rows 4 i .. 4 i + 3 of column 4 l + j
  for (int j = 0; j < 4; ++j) {
    const __m512i even = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0x88);
    const __m512i odd = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0xdd);
    const __m512i lower_even = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0x88);
    const __m512i lower_odd = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0xdd);
    block[j] = _mm512_shuffle_i32x4(even, lower_even, 0x88);
    block[4 + j] = _mm512_shuffle_i32x4(odd, lower_odd, 0x88);
    block[8 + j] = _mm512_shuffle_i32x4(even, lower_even, 0xdd);
    block[12 + j] = _mm512_shuffle_i32x4(odd, lower_odd, 0xdd);
  }
}

}  // namespace
