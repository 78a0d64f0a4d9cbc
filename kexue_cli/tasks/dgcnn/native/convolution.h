// Dilated convolutions with three taps by two thirds of the multiplications, and the gradient of their weights.
//
// Winograd's F(2, 3) (Lavin and Gray 2016, section 4.1): of a convolution with dilation d, the results at t and t + d
// are sum + difference + left and sum - difference + right, four products of combined rows with combined weights,
//   sum        (x[t] + x[t + d])     (w0 + w1 + w2) / 2       left   (x[t - d] - x[t + d])  w0
//   difference (x[t + d] - x[t])     (w0 - w1 + w2) / 2       right  (x[t] - x[t + 2 d])   -w2
// where three taps at two positions would be six. The gradients of the four have the same form.
#pragma once

#include <vector>

#include "../../../native/formats.h"
#include "../../../native/scratch.h"
#include "tile_products.h"

namespace {

constexpr int kProducts = 4;
constexpr int kRegisterRows = 12;      // rows of a register tile of a convolution
constexpr int kColumns = 2 * kLanes;   // its columns
constexpr int kOuterRows = 8;          // rows of a register tile of a weight gradient
constexpr int kStrip = 96;             // pairs that pass all tiles together: their rows stay in the second-level cache
constexpr int kWidest = 4096;          // channels of a text, at most

// One text: a row per position; rows outside of it are zero.
template <class T>
struct Text {
  using Element = typename T::Element;
  const Element* rows;
  int length, channels, dilation;
  std::vector<int> pairs;  // the first position t of each pair (t, t + d): together all positions, each once

  Text(const Element* rows, int length, int channels, int dilation)
      : rows(rows), length(length), channels(channels), dilation(dilation) {
    pairs.reserve(length / 2 + dilation);
    for (int block = 0; block < length; block += 2 * dilation)
      for (int t = block; t < std::min(block + dilation, length); ++t) pairs.push_back(t);
  }
  const Element* row(int t) const {
    static const Element zeros[kWidest] = {};
    return t < 0 || t >= length ? zeros : rows + size_t(t) * channels;
  }
};

// x[t + first d] + sign x[t + second d]
struct Combination {
  int first, second;
  float sign;
};
constexpr Combination kInputs[kProducts] = {{0, 1, 1}, {1, 0, -1}, {-1, 1, -1}, {0, 2, -1}};
constexpr Combination kGradients[kProducts] = {{0, 1, 1}, {0, 1, -1}, {0, 0, 0}, {1, 1, 0}};

template <class T>
struct Combined {  // the row that a pair gives
  const typename T::Element *first, *second;
  __m512 sign;
  Combined(const Text<T>& x, Combination c, int pair)
      : first(x.row(x.pairs[pair] + c.first * x.dilation)),
        second(x.row(x.pairs[pair] + c.second * x.dilation)),
        sign(_mm512_set1_ps(c.sign)) {}
  __m512 load(int c) const { return _mm512_fmadd_ps(T::load(second + c), sign, T::load(first + c)); }
};

// ---- the convolution ---------------------------------------------------------------------------------------------

template <class T, int P, class Start, class Finish>
void product_tile(const int32_t* x, int units, const int32_t* w, int row, const Start& start, const Finish& finish) {
  __m512 sum[P][2];
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p) sum[p][0] = start(row + p, 0), sum[p][1] = start(row + p, kLanes);
  for (int u = 0; u < units; ++u, w += kColumns) {
    const __m512i left = _mm512_loadu_si512(w), right = _mm512_loadu_si512(w + kLanes);
#pragma GCC unroll 12
    for (int p = 0; p < P; ++p) {
      const __m512i value = _mm512_set1_epi32(x[ptrdiff_t(p) * units + u]);
      sum[p][0] = T::multiply_add(sum[p][0], value, left);
      sum[p][1] = T::multiply_add(sum[p][1], value, right);
    }
  }
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p) finish(row + p, sum[p][0], sum[p][1]);
}

template <class T, class Start, class Finish, int... P>
void product_any(int rows, std::integer_sequence<int, P...>, const int32_t* x, int units, const int32_t* w, int row,
                 const Start& start, const Finish& finish) {
  (void)((rows == P + 1 && (product_tile<T, P + 1>(x, units, w, row, start, finish), true)) || ...);
}

// finish(row, 16 sums, the next 16 sums) of `start` + x (rows, units) w (units, 32)
template <class T, class Start, class Finish>
void product(const int32_t* x, int rows, int units, const int32_t* w, const Start& start, const Finish& finish) {
  if constexpr (kInTiles<T>) return product_in_tiles(x, rows, units, w, start, finish);
  const int pieces = (rows + kRegisterRows - 1) / kRegisterRows;  // of about equal size: 20 rows are 10 + 10, not 12 + 8
  for (int i = 0, row = 0; i < pieces; ++i) {
    const int count = rows / pieces + (i < rows % pieces);
    product_any<T>(count, std::make_integer_sequence<int, kRegisterRows>{}, x + ptrdiff_t(row) * units, units, w, row, start,
                   finish);
    row += count;
  }
}

// The four combined rows of pairs `first` to `first + count`, `area` units from product to product.
template <class T>
void fill_operands(const Text<T>& x, int first, int count, int32_t* operands, size_t area) {
  const int units = x.channels / T::kPack;
  for (int i = 0; i < kProducts; ++i)
    for (int p = 0; p < count; ++p) {
      const Combined<T> row(x, kInputs[i], first + p);
      auto* to = reinterpret_cast<typename T::Element*>(operands + i * area + size_t(p) * units);
      for (int c = 0; c < x.channels; c += kLanes) T::store(to + c, row.load(c));
    }
}

// finish(tile, position, 16 results, the next 16) for all positions; weights: [tile of 32 columns][product][unit][column]
template <class T, class Finish>
void convolve(const Text<T>& x, const int32_t* weights, int tiles, const float* bias, const Finish& finish) {
  const int units = x.channels / T::kPack, pairs = x.pairs.size();
  const size_t area = size_t(kStrip) * units, panel = size_t(units) * kColumns;
  int32_t* operands = scratch<int32_t>(0, kProducts * area);
  float* even = scratch<float>(1, 2 * kStrip * kColumns);  // sums of the results at t, and at t + d
  float* odd = even + kStrip * kColumns;
  const auto rows_of = [](const float* sums, int step) {
    return [=](int row, int lane) { return _mm512_loadu_ps(sums + row * step + lane); };
  };
  const auto zero = [](int, int) { return _mm512_setzero_ps(); };
  const auto keep = [&](int row, __m512 left, __m512 right) {
    _mm512_store_ps(even + row * kColumns, left);
    _mm512_store_ps(even + row * kColumns + kLanes, right);
  };
  const auto add_and_subtract = [&](int row, __m512 left, __m512 right) {
    float *sum = even + row * kColumns, *difference = odd + row * kColumns;
    const __m512 first = _mm512_load_ps(sum), second = _mm512_load_ps(sum + kLanes);
    keep(row, _mm512_add_ps(first, left), _mm512_add_ps(second, right));
    _mm512_store_ps(difference, _mm512_sub_ps(first, left));
    _mm512_store_ps(difference + kLanes, _mm512_sub_ps(second, right));
  };
  [[maybe_unused]] const Tiles<T> tiles_of_thread;
  for (int first = 0; first < pairs; first += kStrip) {
    const int count = std::min(kStrip, pairs - first);
    fill_operands(x, first, count, operands, area);
    for (int tile = 0; tile < tiles; ++tile) {
      const int32_t* w = weights + tile * kProducts * panel;
      product<T>(operands, count, units, w, rows_of(bias + tile * kColumns, 0), keep);
      product<T>(operands + area, count, units, w + panel, zero, add_and_subtract);
      product<T>(operands + 2 * area, count, units, w + 2 * panel, rows_of(even, kColumns),
                 [&](int row, __m512 left, __m512 right) { finish(tile, x.pairs[first + row], left, right); });
      product<T>(operands + 3 * area, count, units, w + 3 * panel, rows_of(odd, kColumns),
                 [&](int row, __m512 left, __m512 right) {
                   const int t = x.pairs[first + row] + x.dilation;
                   if (t < x.length) finish(tile, t, left, right);
                 });
    }
  }
}

// ---- the gradient of its weights ---------------------------------------------------------------------------------

template <class T>
int steps_of(int pairs) {  // a step holds kPack pairs in one row of units
  return (pairs + T::kPack - 1) / T::kPack;
}

// Panels of 16 channels, `panel` units apart, each a row of 16 units per step.
template <class T>
void fill_panels(const Text<T>& x, Combination c, int32_t* panels, size_t panel) {
  const int pairs = x.pairs.size();
  for (int pair = 0; pair < pairs; pair += T::kPack, panels += kLanes) {
    const bool two = T::kPack == 2 && pair + 1 < pairs;
    const Combined<T> first(x, c, pair), second(x, c, two ? pair + 1 : pair);
    int32_t* to = panels;
    for (int channel = 0; channel < x.channels; channel += kLanes, to += panel)
      T::store_unit(reinterpret_cast<typename T::Element*>(to), first.load(channel),
                    two ? second.load(channel) : _mm512_setzero_ps());
  }
}

template <class T>
void outer_tile(float* sums, ptrdiff_t columns, const int32_t* x, const int32_t* left, const int32_t* right, int steps) {
  __m512 sum[kOuterRows][2];
#pragma GCC unroll 8
  for (int r = 0; r < kOuterRows; ++r) {
    sum[r][0] = _mm512_loadu_ps(sums + r * columns);
    sum[r][1] = _mm512_loadu_ps(sums + r * columns + kLanes);
  }
  for (int s = 0; s < steps; ++s, x += kLanes, left += kLanes, right += kLanes) {
    const __m512i first = _mm512_loadu_si512(left), second = _mm512_loadu_si512(right);
#pragma GCC unroll 8
    for (int r = 0; r < kOuterRows; ++r) {
      const __m512i value = _mm512_set1_epi32(x[r]);
      sum[r][0] = T::multiply_add(sum[r][0], value, first);
      sum[r][1] = T::multiply_add(sum[r][1], value, second);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kOuterRows; ++r) {
    _mm512_storeu_ps(sums + r * columns, sum[r][0]);
    _mm512_storeu_ps(sums + r * columns + kLanes, sum[r][1]);
  }
}

// gradient (rows, columns) += left right, from panels of `steps` steps
template <class T>
void add_product(float* gradient, int rows, int columns, int32_t* left, const int32_t* right, int steps, size_t panel) {
  if constexpr (kInTiles<T>) return add_product_in_tiles<T>(gradient, rows, columns, left, right, panel);
  for (int column = 0; column < columns; column += kColumns)
    for (int row = 0; row < rows; row += kOuterRows) {
      const int32_t* factors = right + column / kLanes * panel;
      outer_tile<T>(gradient + size_t(row) * columns + column, columns, left + row / kLanes * panel + row % kLanes,
                    factors, factors + panel, steps);
    }
}

// gradient (product, channel of x, channel of z) += those of a group of texts x under gradients z of the results
template <class T>
void add_weight_gradient(const std::vector<Text<T>>& x, const std::vector<Text<T>>& z, float* gradient) {
  int steps = 0;
  for (const Text<T>& text : x) steps += steps_of<T>(text.pairs.size());
  const size_t panel = panel_size<T>(steps);
  const int rows = x[0].channels, columns = z[0].channels;
  int32_t* left = scratch<int32_t>(2, panel * rows / kLanes);
  int32_t* right = scratch<int32_t>(3, panel * columns / kLanes);
  [[maybe_unused]] const Tiles<T> tiles_of_thread;
  for (int i = 0; i < kProducts; ++i, gradient += size_t(rows) * columns) {
    size_t place = 0;
    for (size_t n = 0; n < x.size(); ++n) {
      fill_panels(x[n], kInputs[i], left + place, panel);
      fill_panels(z[n], kGradients[i], right + place, panel);
      place += size_t(steps_of<T>(x[n].pairs.size())) * kLanes;
    }
    end_with_zeros(left, rows / kLanes, place, panel);
    end_with_zeros(right, columns / kLanes, place, panel);
    add_product<T>(gradient, rows, columns, left, right, steps, panel);
  }
}

}  // namespace
