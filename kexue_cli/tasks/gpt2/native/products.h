// One matrix product for everything: register tiles of 12 rows x 32 columns, the right factor packed panel by panel.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "../../../native/transpose.h"

namespace {

constexpr int kLanes = 16;   // float32 numbers in a register
constexpr int kPanel = 32;   // columns of a register tile
constexpr int kRows = 12;    // rows of a register tile, at most
constexpr int kInner = 512;  // rows of a packed panel: 64 KiB, within the second-level cache

using Vector = __m512;

// Element (i, j) lies at data[i * row + j * column]; a transposed matrix is the same data with strides exchanged.
struct Matrix {
  const float* data;
  ptrdiff_t row, column;
  Matrix from(ptrdiff_t i, ptrdiff_t j) const { return {data + i * row + j * column, row, column}; }
};

inline Matrix rows_of(const float* data, ptrdiff_t width) { return {data, width, 1}; }
inline Matrix transposed(const float* data, ptrdiff_t width) { return {data, 1, width}; }

inline __mmask16 first_lanes(ptrdiff_t count) {
  return count >= kLanes ? 0xffff : count <= 0 ? 0 : __mmask16((1u << count) - 1);
}

template <int kIndex>
float* scratch(size_t count) {  // grows once, then is reused: no allocation in the steady state
  thread_local std::vector<float> buffer;
  if (buffer.size() < count + kLanes) buffer.resize(count + kLanes);
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(buffer.data()) + 63) / 64 * 64);
}

// Columns `first` .. `first` + 32 of `inner` rows of b, row after row; columns beyond `columns` are zero.
inline void pack_panel(Matrix b, int inner, ptrdiff_t columns, float* panel) {
  for (int half = 0; half < 2; ++half) {
    const Matrix source = b.from(0, half * kLanes);
    const ptrdiff_t count = std::clamp<ptrdiff_t>(columns - half * kLanes, 0, kLanes);
    float* target = panel + half * kLanes;
    if (b.column == 1) {
      const __mmask16 valid = first_lanes(count);
      for (int k = 0; k < inner; ++k)
        _mm512_storeu_ps(target + k * kPanel, _mm512_maskz_loadu_ps(valid, source.data + k * source.row));
      continue;
    }
    for (int k = 0; k < inner; k += kLanes) {  // its rows are contiguous: 16 x 16 blocks are turned
      const __mmask16 valid = first_lanes(inner - k);
      __m512i block[kLanes] = {};
      for (int j = 0; j < count; ++j)
        block[j] = _mm512_maskz_loadu_epi32(valid, source.data + k + j * source.column);
      transpose(block);
      for (int i = 0; i < std::min(kLanes, inner - k); ++i) _mm512_storeu_si512(target + (k + i) * kPanel, block[i]);
    }
  }
}

template <int R>
void tile(Matrix a, int inner, const float* panel, float* c, ptrdiff_t width, __mmask16 left, __mmask16 right, bool add) {
  Vector sum[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    sum[r][0] = add ? _mm512_maskz_loadu_ps(left, c + r * width) : _mm512_setzero_ps();
    sum[r][1] = add ? _mm512_maskz_loadu_ps(right, c + r * width + kLanes) : _mm512_setzero_ps();
  }
  const float* factor = a.data;
  for (int k = 0; k < inner; ++k, panel += kPanel, factor += a.column) {
    const Vector first = _mm512_loadu_ps(panel), second = _mm512_loadu_ps(panel + kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Vector value = _mm512_set1_ps(factor[r * a.row]);
      sum[r][0] = _mm512_fmadd_ps(value, first, sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(value, second, sum[r][1]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    _mm512_mask_storeu_ps(c + r * width, left, sum[r][0]);
    _mm512_mask_storeu_ps(c + r * width + kLanes, right, sum[r][1]);
  }
}

template <int... R>
void any_tile(int rows, std::integer_sequence<int, R...>, Matrix a, int inner, const float* panel, float* c,
              ptrdiff_t width, __mmask16 left, __mmask16 right, bool add) {
  (void)((rows == R + 1 && (tile<R + 1>(a, inner, panel, c, width, left, right, add), true)) || ...);
}

// c (rows, columns), `width` floats from row to row, = (c +) a (rows, inner) b (inner, columns).
// The strides of b: one of them is 1.
inline void product(int rows, int inner, int columns, Matrix a, Matrix b, float* c, ptrdiff_t width, bool add = false) {
  float* panel = scratch<0>(kInner * kPanel);
  const int pieces = (rows + kRows - 1) / kRows;  // of about equal size: 16 rows are 8 + 8, not 12 + 4
  for (int column = 0; column < columns; column += kPanel)
    for (int k = 0; k < inner; k += kInner) {
      const int count = std::min(kInner, inner - k);
      pack_panel(b.from(k, column), count, columns - column, panel);
      const __mmask16 left = first_lanes(columns - column), right = first_lanes(columns - column - kLanes);
      int row = 0;
      for (int i = 0; i < pieces; ++i) {
        const int size = rows / pieces + (i < rows % pieces);
        any_tile(size, std::make_integer_sequence<int, kRows>{}, a.from(row, k), count, panel,
                 c + row * width + column, width, left, right, add || k);
        row += size;
      }
    }
}

}  // namespace
