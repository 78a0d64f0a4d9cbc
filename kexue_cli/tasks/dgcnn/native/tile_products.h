// The products of convolution.h in Intel's tile registers, where there are any: bfloat16 numbers, sums in float32.
#pragma once

#include "../../../native/formats.h"

#ifdef __AMX_BF16__
#include "../../../native/tiles.h"
#include "../../../native/transpose.h"
#endif

namespace {

constexpr int kSide = 16;  // of a tile, in rows and in 32-bit units
constexpr int kTwice = 2 * kSide;

template <class T>
constexpr bool kInTiles = false;

// The tile registers of a thread while it multiplies numbers of format T: others shape them as they like.
template <class T>
struct Tiles {};

// Units of a panel of `steps` rows of 16: tiles hold 16 rows.
template <class T>
size_t panel_size(int steps) {
  return size_t(kInTiles<T> ? (steps + kSide - 1) / kSide * kSide : steps) * kLanes;
}

// Panels, each from `place` to its size.
inline void end_with_zeros(int32_t* panels, int count, size_t place, size_t size) {
  for (int i = 0; i < count; ++i, panels += size) std::fill(panels + place, panels + size, 0);
}

#ifdef __AMX_BF16__

struct BFloat16InTiles : BFloat16 {};

template <>
constexpr bool kInTiles<BFloat16InTiles> = true;

template <>
struct Tiles<BFloat16InTiles> {
  Tiles() { shape_tiles(kTileDepth); }
  ~Tiles() { release_tiles(); }
};

// finish(row, 16 sums, the next 16 sums) of `start` + x (rows, units) w (units, 32); x has memory for whole tiles
template <class Start, class Finish>
void product_in_tiles(const int32_t* x, int rows, int units, const int32_t* w, const Start& start, const Finish& finish) {
  alignas(64) float sums[kTwice][kTwice];
  const ptrdiff_t step = units * sizeof(int32_t), w_step = kTwice * sizeof(int32_t);
  for (int row = 0; row < rows; row += kTwice) {
    const int32_t *upper = x + ptrdiff_t(row) * units, *lower = upper + ptrdiff_t(kSide) * units;
    const bool two = rows - row > kSide;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int u = 0; u < units; u += kSide) {
      if (two) multiply_add_tiles<2, 2>(upper + u, lower + u, step, w + u * kTwice, w_step);
      else multiply_add_tiles<1, 2>(upper + u, nullptr, step, w + u * kTwice, w_step);
    }
    store_sums<2, 2>(sums[0], sums[kSide], w_step);
    for (int r = 0; r < std::min(kTwice, rows - row); ++r)
      finish(row + r, _mm512_add_ps(start(row + r, 0), _mm512_load_ps(sums[r])),
             _mm512_add_ps(start(row + r, kLanes), _mm512_load_ps(sums[r] + kLanes)));
  }
}

// Each 16 rows of 16 units: columns for rows.
inline void turn(int32_t* panel, size_t size) {
  for (int32_t* end = panel + size; panel < end; panel += kSide * kLanes) {
    __m512i block[kSide];
    for (int i = 0; i < kSide; ++i) block[i] = _mm512_load_si512(panel + i * kLanes);
    transpose(block);
    for (int i = 0; i < kSide; ++i) _mm512_store_si512(panel + i * kLanes, block[i]);
  }
}

// sums (32, 32) += two turned panels at the left times two panels at the right
inline void outer_in_tiles(float* sums, ptrdiff_t columns, const int32_t* left, const int32_t* right, size_t panel) {
  const ptrdiff_t row = kLanes * sizeof(int32_t), sums_row = columns * sizeof(float);
  float* lower = sums + kSide * columns;
  load_sums<2, 2>({sums, sums_row}, {lower, sums_row});
  for (size_t at = 0; at < panel; at += kSide * kLanes) {
    _tile_loadd(4, left + at, row);
    _tile_loadd(6, right + at, row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + panel + at, row);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left + panel + at, row);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  store_sums<2, 2>(sums, lower, sums_row);
}

template <class T>
void add_product_in_tiles(float* gradient, int rows, int columns, int32_t* left, const int32_t* right, size_t panel) {
  for (int row = 0; row < rows; row += kSide) turn(left + row / kSide * panel, panel);
  for (int column = 0; column < columns; column += kTwice)
    for (int row = 0; row < rows; row += kTwice)
      outer_in_tiles(gradient + size_t(row) * columns + column, columns, left + row / kSide * panel,
                     right + column / kSide * panel, panel);
}

#endif

}  // namespace
