// The two matrix products that everything is made of: a convolution straight from the rows of its input, and the
// gradient of its weights. Both keep a tile of the result in registers.
#pragma once

#include <utility>

#include "../../../native/formats.h"

namespace {

constexpr int kPositions = 12;  // wavelengths in a register tile
constexpr int kRows = 8;        // input channels in a register tile of the weight gradient
constexpr int kTaps = 3;

// ---- the two register-tiled products -------------------------------------------------------------------------

template <class T, int P, int V>
inline __attribute__((always_inline)) void product_tile(__m512 (&sum)[P][V], const int32_t* x, int units, int taps,
                                                        int step, const int32_t* w) {
  for (int k = 0; k < taps; ++k) {
    const int32_t* row = x + ptrdiff_t(k - taps / 2) * step;
    for (int u = 0; u < units; ++u, w += V * kLanes) {
      __m512i weight[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) weight[v] = _mm512_loadu_si512(w + v * kLanes);
#pragma GCC unroll 12
      for (int p = 0; p < P; ++p) {
        const __m512i value = _mm512_set1_epi32(row[ptrdiff_t(p) * units + u]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[p][v] = T::multiply_add(sum[p][v], value, weight[v]);
      }
    }
  }
}

// One register tile: sums begin at `start` (V * 16 numbers), `finish` takes the sums of each position in turn.
template <class T, int V, int P, class Finish>
void convolve_tile(const int32_t* x, int units, int taps, int step, const int32_t* w, const float* start, Finish finish) {
  __m512 sum[P][V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const __m512 first = _mm512_loadu_ps(start + v * kLanes);
#pragma GCC unroll 12
    for (int p = 0; p < P; ++p) sum[p][v] = first;
  }
  product_tile<T, P, V>(sum, x, units, taps, step, w);
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p) finish(sum[p]);
}

template <class T, int V, class Finish, int... P>
void convolve_any(int positions, std::integer_sequence<int, P...>, const int32_t* x, int units, int taps, int step,
                  const int32_t* w, const float* start, const Finish& finish) {
  (void)((positions == kPositions - P &&
          (convolve_tile<T, V, kPositions - P>(x, units, taps, step, w, start, finish), true)) || ...);
}

// x: rows of `channels` elements, zero rows around them; w: [tap][unit][V * 16 output channels][kPack], one tile of them.
template <class T, int V, class Finish>
void convolve(const typename T::Element* x, int length, int channels, int taps, int dilation, const int32_t* w,
              const float* start, Finish finish) {
  const int units = channels / T::kPack;
  const int32_t* rows = reinterpret_cast<const int32_t*>(x);
  const int pieces = (length + kPositions - 1) / kPositions;
  const int size = length / pieces, larger = length % pieces;
  for (int i = 0; i < pieces; ++i) {  // pieces of about equal size: 20 positions are 10 + 10, not 12 + 8
    const int positions = size + (i < larger);
    convolve_any<T, V>(positions, std::make_integer_sequence<int, kPositions>{}, rows, units, taps, dilation * units, w,
                       start, finish);
    rows += ptrdiff_t(positions) * units;
    finish.advance(positions);
  }
}

// Writes (or adds) sums to rows `step` elements apart.
template <class T, int V, bool kAdd>
struct Store {
  typename T::Element* target;
  int step;
  void advance(int positions) { target += ptrdiff_t(positions) * step; }
  inline __attribute__((always_inline)) void operator()(const __m512 (&sum)[V]) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      typename T::Element* at = target + v * kLanes;
      T::store(at, kAdd ? _mm512_add_ps(sum[v], T::load(at)) : sum[v]);
    }
    target += step;
  }
};

// relu(a) + relu(b) (+ shortcut) to rows `step` elements apart; with kKeep the signs of a and b are kept.
template <class T, bool kShortcut, bool kKeep>
struct PairSum {
  typename T::Element* target;
  const typename T::Element* shortcut;
  uint16_t* signs;
  int step;
  void advance(int positions) {
    target += ptrdiff_t(positions) * step;
    if (kShortcut) shortcut += ptrdiff_t(positions) * step;
    signs += ptrdiff_t(positions) * step / kLanes * 2;
  }
  inline __attribute__((always_inline)) void operator()(const __m512 (&sum)[2]) {
    const __m512 zero = _mm512_setzero_ps();
    if (kKeep) {
      signs[0] = _mm512_cmp_ps_mask(sum[0], zero, _CMP_GT_OQ);
      signs[1] = _mm512_cmp_ps_mask(sum[1], zero, _CMP_GT_OQ);
      signs += step / kLanes * 2;
    }
    // the operand order lets a NaN through
    __m512 y = _mm512_add_ps(_mm512_max_ps(zero, sum[0]), _mm512_max_ps(zero, sum[1]));
    if (kShortcut) {
      y = _mm512_add_ps(y, T::load(shortcut));
      shortcut += step;
    }
    T::store(target, y);
    target += step;
  }
};

// Samples of one slice, seen as rows of 32-bit units: `step` units to the next row, `stride` to the next sample.
struct Rows {
  const int32_t* first;
  ptrdiff_t step, stride;
  Rows from(ptrdiff_t row, ptrdiff_t column) const { return {first + row * step + column, step, stride}; }
};

// gradient[row][column] += sum over samples and steps of x[step][row] * z[step][column]
template <class T, int R, int V>
void outer_tile(float* gradient, int columns, Rows x, Rows z, int samples, int steps) {
  __m512 sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[r][v] = _mm512_loadu_ps(gradient + ptrdiff_t(r) * columns + v * kLanes);
  for (int n = 0; n < samples; ++n) {
    const int32_t* left = x.first + n * x.stride;
    const int32_t* right = z.first + n * z.stride;
    for (int s = 0; s < steps; ++s, left += x.step, right += z.step) {
      __m512i factor[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) factor[v] = _mm512_loadu_si512(right + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512i value = _mm512_set1_epi32(left[r]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[r][v] = T::multiply_add(sum[r][v], value, factor[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(gradient + ptrdiff_t(r) * columns + v * kLanes, sum[r][v]);
}

// gradient: [tap][channel][column]; x: a row per position, zero rows around them; z: a row per step of kPack positions.
// A row of x holds, beside each element, the next position's (see `position_pairs`), hence the step of kPack rows.
template <class T, int V>
void weight_gradient(float* gradient, Rows x, int channels, Rows z, int columns, int samples, int length, int taps,
                     int dilation) {
  constexpr int kSteps = 128;  // rows of x and z that stay in the first-level cache
  const int steps = (length + T::kPack - 1) / T::kPack;
  for (int column = 0; column < columns; column += V * kLanes)
    for (int first = 0; first < steps; first += kSteps)
      for (int k = 0; k < taps; ++k) {
        const int count = std::min(kSteps, steps - first);
        const Rows factors = z.from(first, column);
        float* target = gradient + ptrdiff_t(k) * channels * columns + column;
        for (int c = 0; c < channels;) {
          Rows rows = x.from(ptrdiff_t(first) * T::kPack + ptrdiff_t(k - taps / 2) * dilation, c);
          rows.step *= T::kPack;
          float* sums = target + ptrdiff_t(c) * columns;
          if (c + kRows <= channels) {
            outer_tile<T, kRows, V>(sums, columns, rows, factors, samples, count);
            c += kRows;
          } else {
            outer_tile<T, 1, V>(sums, columns, rows, factors, samples, count);
            c += 1;
          }
        }
      }
}

}  // namespace
