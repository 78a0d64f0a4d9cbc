// Two matrix products with a tile of the result each, in vector or in tile registers: rows times packed weights, and the
// gradient of weights.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "layout.h"

namespace {

constexpr int kPieceRows = 12;
constexpr int kTileVectors = 2;

// `count` rows in pieces of about equal size, at most 12: 20 rows are 10 + 10, not 12 + 8. work(first, P) with P as type.
template <class Work, class After, int... P>
void in_pieces(int count, const Work& work, const After& after, std::integer_sequence<int, P...>) {
  const int pieces = (count + kPieceRows - 1) / kPieceRows;
  for (int piece = 0, first = 0; piece < pieces; ++piece) {
    const int rows = count / pieces + (piece < count % pieces);
    (void)((rows == P + 1 && (work(first, std::integral_constant<int, P + 1>{}), true)) || ...);
    after();
    first += rows;
  }
}

template <class Work, class After>
void in_pieces(int count, const Work& work, const After& after) {
  in_pieces(count, work, after, std::make_integer_sequence<int, kPieceRows>{});
}

// sums of a tile, one row after the other, before they are finished
struct Tile {
  int first_row, rows, column, vectors;
  __mmask16 masks[kTileVectors];  // columns that exist
  alignas(64) float sums[kTileVectors * kLanes][kTileVectors * kLanes];
  void place(int first_column, int columns, int count) {
    column = first_column, vectors = count;
    for (int v = 0; v < kTileVectors; ++v) masks[v] = mask_of(columns - column - v * kLanes);
  }
  __m512 sum(int row, int v) const { return _mm512_load_ps(sums[row] + v * kLanes); }
};

template <class T, int P, int V>
void product_tile(const int32_t* x, ptrdiff_t step, int units, const int32_t* w, const float* start, Tile& tile) {
  __m512 sum[P][V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 12
    for (int p = 0; p < P; ++p) sum[p][v] = _mm512_loadu_ps(start + v * kLanes);
  for (int u = 0; u < units; ++u, w += V * kLanes) {
    __m512i weight[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) weight[v] = _mm512_loadu_si512(w + v * kLanes);
#pragma GCC unroll 12
    for (int p = 0; p < P; ++p) {
      const __m512i value = _mm512_set1_epi32(x[p * step + u]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[p][v] = T::multiply_add(sum[p][v], value, weight[v]);
    }
  }
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) _mm512_store_ps(tile.sums[p] + v * kLanes, sum[p][v]);
}

#ifdef __AMX_BF16__
constexpr int kSquare = 2 * kTileRows;

// sums[r][c] = start[c] + sum over the units u of a[r * a_step + u] times b[u * b_step + c], 32 columns and 16 L rows;
// `units` is a multiple of 16
template <int L>
void tile_product(const int32_t* a, ptrdiff_t a_step, const int32_t* b, ptrdiff_t b_step, int units,
                  const float* start, float (*sums)[kSquare]) {
  asm volatile("" ::: "memory");  // the compiler does not know that tiles read what was stored before
  load_sums<L, 2>({start, 0}, {start, 0});
  for (int u = 0; u < units; u += kTileRows, b += kTileRows * b_step)
    multiply_add_tiles<L, 2>(a + u, a + kTileRows * a_step + u, a_step * 4, b, b_step * 4);
  store_sums<L, 2>(sums[0], sums[kTileRows], sizeof(sums[0]));
}

template <class... Arguments>
void square_product(int rows, Arguments... arguments) {  // of at most 32 rows; the memory of `a` is there for 16 or 32
  if (rows > kTileRows) tile_product<2>(arguments...);
  else tile_product<1>(arguments...);
}

// see multiply_columns; `step` units from one row of x to the next.
template <class Finish>
void multiply_columns_by_tiles(const int32_t* x, ptrdiff_t step, int rows, int units, const int32_t* w, int first,
                               int last, int columns, const float* start, const Finish& finish) {
  Tile tile;
  for (int column = first; column < last; column += kSquare) {
    const int32_t* weights = w + ptrdiff_t(column) * units;
    tile.place(column, columns, kTileVectors);
    for (int row = 0; row < rows; row += kSquare) {
      tile.first_row = row, tile.rows = std::min(kSquare, rows - row);
      square_product(tile.rows, x + row * step, step, weights, kSquare, units, start + column, tile.sums);
      finish(tile);
    }
  }
}
#endif

// finish(tile) for the tiles of x (rows of `width` elements) times the columns first..last of the weights;
// w: [tile][unit][32 or at the end 16 columns]
template <class T, class Finish>
void multiply_columns(const typename T::Element* x, int width, int rows, int units, const int32_t* w, int first,
                      int last, int columns, const float* start, const Finish& finish) {
  const int32_t* from = reinterpret_cast<const int32_t*>(x);
  const ptrdiff_t step = width / T::kPack;
  Tile tile;
#ifdef __AMX_BF16__
  if constexpr (T::kTiles) return multiply_columns_by_tiles(from, step, rows, units, w, first, last, columns, start, finish);
#endif
  for (int column = first; column < last; column += kTileVectors * kLanes) {
    const int32_t* weights = w + ptrdiff_t(column) * units;
    tile.place(column, columns, vectors_of<T>(columns - column));
    in_pieces(rows, [&](int row, auto size) {
      constexpr int P = decltype(size)::value;
      const int32_t* piece = from + row * step;
      if (tile.vectors == 2) product_tile<T, P, 2>(piece, step, units, weights, start + column, tile);
      else product_tile<T, P, 1>(piece, step, units, weights, start + column, tile);
      tile.first_row = row, tile.rows = P;
    }, [&] { finish(tile); });
  }
}

template <class T, class Finish>
void multiply(const typename T::Element* x, int width, int rows, int units, const int32_t* w, int columns,
              const float* start, const Finish& finish) {
  multiply_columns<T>(x, width, rows, units, w, 0, columns, columns, start, finish);
}

template <class T, int R, int V>
void outer_tile(float* gradient, bool fresh, int columns, const int32_t* x, ptrdiff_t x_step, const int32_t* z,
                ptrdiff_t z_step, int steps, __mmask16 last) {
  __m512 sum[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const __mmask16 mask = fresh ? 0 : v + 1 < V ? 0xffff : last;
      sum[r][v] = _mm512_maskz_loadu_ps(mask, gradient + ptrdiff_t(r) * columns + v * kLanes);
    }
  for (int s = 0; s < steps; ++s, x += x_step, z += z_step) {
    __m512i factor[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) factor[v] = _mm512_loadu_si512(z + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512i value = _mm512_set1_epi32(x[r]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] = T::multiply_add(sum[r][v], value, factor[v]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
      _mm512_mask_storeu_ps(gradient + ptrdiff_t(r) * columns + v * kLanes, v + 1 < V ? 0xffff : last, sum[r][v]);
}

#ifdef __AMX_BF16__
// gradient (inputs x columns, float32) += x^T z, or = where it is `fresh`; x (inputs, steps) and z (steps, columns),
// padded, in pairs of rows
inline void add_weight_gradient_by_tiles(float* gradient, bool fresh, int inputs, int columns, const int32_t* x,
                                         const int32_t* z, ptrdiff_t z_step, int steps) {
  alignas(64) static constexpr float kZeros[kSquare] = {};
  alignas(64) float sums[kSquare][kSquare];
  for (int column = 0; column < columns; column += kSquare)
    for (int input = 0; input < inputs; input += kSquare) {
      const int rows = std::min(kSquare, inputs - input);
      square_product(rows, x + ptrdiff_t(input) * steps, steps, z + column, z_step, steps, kZeros, sums);
      for (int r = 0; r < rows; ++r)
        for (int v = 0; v < kTileVectors; ++v) {
          const __mmask16 mask = mask_of(columns - column - v * kLanes);
          float* target = gradient + ptrdiff_t(input + r) * columns + column + v * kLanes;
          const __m512 before = _mm512_maskz_loadu_ps(fresh ? 0 : mask, target);
          _mm512_mask_storeu_ps(target, mask, _mm512_add_ps(before, _mm512_load_ps(sums[r] + v * kLanes)));
        }
    }
}
#endif

// gradient (inputs x columns, float32) += x^T z over `rows` rows, or = where it is `fresh`; x and z padded, by
// Pass::pairs. A row of the gradient is written to its end before the next ones: that is how memory is fast.
template <class T>
void add_weight_gradient(float* gradient, bool fresh, int inputs, int columns, const int32_t* x, const int32_t* z,
                         int steps) {
  const ptrdiff_t x_step = width_of<T>(inputs), z_step = width_of<T>(columns);
  in_pieces(inputs, [&](int input, auto size) {
    constexpr int R = decltype(size)::value;
    for (int column = 0; column < columns; column += kTileVectors * kLanes) {
      const bool wide = columns - column > kLanes;
      const __mmask16 mask = mask_of(columns - column - (wide ? kLanes : 0));
      float* target = gradient + ptrdiff_t(input) * columns + column;
      if (wide) outer_tile<T, R, 2>(target, fresh, columns, x + input, x_step, z + column, z_step, steps, mask);
      else outer_tile<T, R, 1>(target, fresh, columns, x + input, x_step, z + column, z_step, steps, mask);
    }
  }, [] {});
}

}  // namespace
