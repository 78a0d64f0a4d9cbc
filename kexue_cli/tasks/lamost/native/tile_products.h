// The two products of products.h in bfloat16 by the tile registers of AMX, where the processor has them.
#pragma once

#include "../../../native/tiles.h"
#include "../../../native/transpose.h"
#include "products.h"

namespace {

#ifdef __AMX_BF16__

inline bool tiles_take(int channels) { return channels % kTileRows == 0 && tiles_allowed(); }

struct TilesInUse {  // registers in use are saved whenever threads are switched
  ~TilesInUse() {
    if (tiles_allowed()) release_tiles();
  }
};

// Sums of 16 or (L = 2) 32 positions: the first 16 from `upper` on, the others from `lower` on.
template <int L, int V>
void convolve_tiles(const uint16_t* upper, const uint16_t* lower, int channels, int taps, int dilation, int depth,
                    const int32_t* w, const float* start, float* sums) {
  load_sums<L, V>({start, 0}, {start, 0});  // the same row for all
  for (int k = 0; k < taps; ++k) {
    const ptrdiff_t row = ptrdiff_t(k - taps / 2) * dilation * channels;
    for (int c = 0; c < channels; c += depth, w += depth / 2 * V * kLanes)
      multiply_add_tiles<L, V>(upper + row + c, lower + row + c, channels * sizeof(uint16_t), w,
                               V * kLanes * sizeof(int32_t));
  }
  store_sums<L, V>(sums, sums + kTileRows * V * kLanes, V * kLanes * sizeof(float));
}

template <int V, class Finish>
void finish_rows(const float* sums, int first, Finish& finish) {  // of one tile, the rows before `first` left out
  for (int row = first; row < kTileRows; ++row) {
    __m512 sum[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[v] = _mm512_load_ps(sums + (row * V + v) * kLanes);
    finish(sum);
  }
}

// `convolve` for at least 16 positions. The last tile begins earlier where fewer than 16 are left.
template <int V, class Finish>
void convolve_by_tiles(const uint16_t* x, int length, int channels, int taps, int dilation, const int32_t* w,
                       const float* start, Finish finish) {
  const int depth = channels % kTileDepth ? kTileRows : kTileDepth;
  alignas(64) float sums[2 * kTileRows * V * kLanes];
  shape_tiles(depth);
  for (int position = 0; position < length; position += 2 * kTileRows) {
    const int upper = std::min(position, length - kTileRows);
    const int lower = std::min(position + kTileRows, length - kTileRows);
    const uint16_t *first = x + ptrdiff_t(upper) * channels, *second = x + ptrdiff_t(lower) * channels;
    const bool both = length - position > kTileRows;
    if (both) convolve_tiles<2, V>(first, second, channels, taps, dilation, depth, w, start, sums);
    else convolve_tiles<1, V>(first, first, channels, taps, dilation, depth, w, start, sums);
    finish_rows<V>(sums, position - upper, finish);
    if (both) finish_rows<V>(sums + kTileRows * V * kLanes, position + kTileRows - lower, finish);
  }
}

// x (positions from -before on, `count` of them exist, `channels` elements each) -> columns [channel][position from
// -before on], `width` positions (a multiple of 32) of which those after `count` are zero
inline void transpose_rows(const uint16_t* x, int before, int count, int channels, int width, uint16_t* columns) {
  const uint16_t* row = x - ptrdiff_t(before) * channels;
  const auto load = [&](int position, int c) {
    const __mmask16 valid = position < count ? 0xffff : 0;
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(valid, row + ptrdiff_t(position) * channels + c));
  };
  for (int position = 0; position < width; position += kTileDepth)
    for (int c = 0; c < channels; c += kLanes) {
      __m512i block[kLanes];
      for (int i = 0; i < kLanes; ++i)
        block[i] = _mm512_or_si512(load(position + 2 * i, c), _mm512_slli_epi32(load(position + 2 * i + 1, c), 16));
      transpose(block);
      for (int i = 0; i < kLanes; ++i) _mm512_storeu_si512(columns + ptrdiff_t(c + i) * width + position, block[i]);
    }
}

struct Columns {  // of one slice: [sample][channel][position]
  const uint16_t* first;  // channel 0, position 0
  ptrdiff_t width, stride;
};

// gradient: [tap][channel][column], as rows of taps x channels; z: [sample][pair of positions][column], whole tiles
template <int L, int R>
void outer_tiles(float* gradient, int columns, const uint16_t* upper, const uint16_t* lower, Columns x, Rows z,
                 int samples, int pairs) {
  float* next = gradient + ptrdiff_t(kTileRows) * columns;
  const ptrdiff_t step = columns * sizeof(float);
  load_sums<L, R>({gradient, step}, {next, step});
  for (int n = 0; n < samples; ++n) {
    const uint16_t *first = upper + n * x.stride, *second = lower + n * x.stride;
    const int32_t* factors = z.first + n * z.stride;
    for (int pair = 0; pair < pairs; pair += kTileRows)
      multiply_add_tiles<L, R>(first + 2 * pair, second + 2 * pair, x.width * sizeof(uint16_t), factors + pair * z.step,
                               z.step * sizeof(int32_t));
  }
  store_sums<L, R>(gradient, next, step);
}

inline void weight_gradient_by_tiles(float* gradient, Columns x, int channels, Rows z, int columns, int samples,
                                     int pairs, int taps, int dilation) {
  const int rows = taps * channels;
  const auto factors_of = [&](int row) {
    return x.first + ptrdiff_t(row % channels) * x.width + ptrdiff_t(row / channels - taps / 2) * dilation;
  };
  shape_tiles(kTileDepth);
  for (int column = 0; column < columns; column += 2 * kLanes)
    for (int row = 0; row < rows; row += 2 * kTileRows) {
      float* target = gradient + ptrdiff_t(row) * columns + column;
      const bool tall = rows - row > kTileRows, wide = columns - column > kLanes;
      const uint16_t *upper = factors_of(row), *lower = tall ? factors_of(row + kTileRows) : upper;
      const auto run = [&](auto sum_up) {
        sum_up(target, columns, upper, lower, x, z.from(0, column), samples, pairs);
      };
      if (tall && wide) run(outer_tiles<2, 2>);
      else if (tall) run(outer_tiles<2, 1>);
      else if (wide) run(outer_tiles<1, 2>);
      else run(outer_tiles<1, 1>);
    }
}

#else

struct TilesInUse {};

#endif

// `convolve` by whichever is fastest here.
template <class T, int V, class Finish>
void convolution(const typename T::Element* x, int length, int channels, int taps, int dilation, const int32_t* w,
                 const float* start, Finish finish) {
#ifdef __AMX_BF16__
  if constexpr (T::kPack == 2)
    if (length >= kTileRows && tiles_take(channels))
      return convolve_by_tiles<V>(x, length, channels, taps, dilation, w, start, finish);
#endif
  convolve<T, V>(x, length, channels, taps, dilation, w, start, finish);
}

}  // namespace
