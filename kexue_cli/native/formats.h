// Number formats of the kernels: the unit of arithmetic is 32 bits, one float32 or two bfloat16.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kLanes = 16;  // float32 numbers in a register

struct Float32 {
  using Element = float;
  static constexpr int kPack = 1;  // elements in a 32-bit unit
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 value) { _mm512_storeu_ps(p, value); }
  static void store_unit(float* p, __m512 only, __m512) { _mm512_storeu_ps(p, only); }
  static float round(float value) { return value; }
  static float widen(float value) { return value; }
  static __m512 multiply_add(__m512 sum, __m512i a, __m512i b) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
  }
};

#ifdef __AVX512BF16__
struct BFloat16 {
  using Element = uint16_t;
  static constexpr int kPack = 2;
  static __m512 load(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static void store(uint16_t* p, __m512 value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(value));
  }
  static void store_unit(uint16_t* p, __m512 first, __m512 second) {  // 16 pairs
    const auto wide = [](__m512 value) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(value)); };
    _mm512_storeu_si512(p, _mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16)));
  }
  static uint16_t round(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40;  // NaN stays NaN
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;                // to nearest, ties to even
  }
  static float widen(uint16_t value) {
    const uint32_t bits = uint32_t(value) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
  }
  static __m512 multiply_add(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};
#endif

}  // namespace
