// What is stored where, and the passes that only move numbers: packing weights, rounding rows, pairing rows.
#pragma once

#include <cmath>
#include <vector>

#include "../../../native/formats.h"
#include "elementwise.h"

namespace {

constexpr int kBlock = 120;      // rows that pass all layers before the next ones: activations stay in the cache
constexpr float kNever = -1e4f;  // bias of the padding behind the last pixel: its probability is 0, its logarithm 0

struct Layer {
  int in, out;
  size_t forward, transposed, bias;  // byte offsets in the packed weights
};

struct Plan {
  bool bfloat16, bernoulli;
  int activation, last_activation, widest;
  std::vector<Layer> layers;
  size_t packed_bytes, gradient_floats;
};

inline int width_of(int columns) { return (columns + kLanes - 1) / kLanes * kLanes; }  // elements of a stored row

inline __mmask16 mask_of(int columns) { return columns >= kLanes ? 0xffff : static_cast<__mmask16>((1 << columns) - 1); }

template <class T>
int units_of(int columns) {  // 32-bit units that a product goes through
  return (columns + T::kPack - 1) / T::kPack;
}

size_t take(size_t& total, size_t bytes) {  // cache-line aligned
  const size_t offset = total;
  total += (bytes + 63) / 64 * 64;
  return offset;
}

Plan make_plan(bool bfloat16, const std::vector<int>& sizes, int activation, int last_activation, bool bernoulli) {
  Plan plan{bfloat16, bernoulli, activation, last_activation, 0, {}, 0, 0};
  const int pack = bfloat16 ? 2 : 1;
  const auto bytes = [&](int reduced, int kept) { return size_t((reduced + pack - 1) / pack) * width_of(kept) * 4; };
  for (size_t l = 0; l + 1 < sizes.size(); ++l) {
    Layer layer{sizes[l], sizes[l + 1], 0, 0, 0};
    layer.forward = take(plan.packed_bytes, bytes(layer.in, layer.out));
    layer.transposed = take(plan.packed_bytes, bytes(layer.out, layer.in));
    layer.bias = take(plan.packed_bytes, width_of(layer.out) * sizeof(float));
    plan.layers.push_back(layer);
    plan.gradient_floats += size_t(layer.in + 1) * layer.out;
  }
  for (int size : sizes) plan.widest = std::max(plan.widest, width_of(size));
  return plan;
}

size_t record_bytes(const Plan& plan, int rows) {  // the input of every layer, and the derivative of the likelihood
  size_t elements = plan.bernoulli ? width_of(plan.layers.back().out) : 0;
  for (const Layer& layer : plan.layers) elements += width_of(layer.in);
  return size_t(rows) * elements * (plan.bfloat16 ? 2 : 4);
}

size_t cell_record_bytes(const Plan& plan, int rows) { return record_bytes(plan, kBlock) * ((rows + kBlock - 1) / kBlock); }

// ---- packing: [tile of 32 columns][unit][column][element of the unit], the last tile 32 or 16 columns wide

template <class T>
void pack_rows(const float* w, int reduced, int kept, typename T::Element* packed) {  // w: (reduced, kept)
  const int units = units_of<T>(reduced);
  for (int unit = 0; unit < units; ++unit)  // row after row as they lie in memory
    for (int column = 0; column < kept; column += kLanes) {
      const int tile = column / (2 * kLanes) * 2 * kLanes, row = unit * T::kPack;
      const int vectors = kept - tile > kLanes ? 2 : 1, v = (column - tile) / kLanes;
      const __mmask16 mask = mask_of(kept - column);
      const float* at = w + ptrdiff_t(row) * kept + column;
      const __m512 upper = _mm512_maskz_loadu_ps(row + 1 < reduced ? mask : 0, at + kept);
      T::store_unit(packed + (ptrdiff_t(tile) * units + (unit * vectors + v) * kLanes) * T::kPack,
                    _mm512_maskz_loadu_ps(mask, at), upper);
    }
}

// 16 units from `at` on, of which `count` numbers exist
template <class T>
__m512i units_at(const float* at, int count) {
  const __m512 lower = _mm512_maskz_loadu_ps(mask_of(count), at);
  if constexpr (T::kPack == 1) {
    return _mm512_castps_si512(lower);
  } else {
    const __mmask16 mask = count > kLanes ? mask_of(count - kLanes) : 0;
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(mask, at + kLanes), lower);
  }
}

inline void transpose(__m512i (&block)[kLanes]) {  // 16 x 16 units
  __m512i pairs[kLanes], quads[kLanes];
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(block[i], block[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(block[i], block[i + 1]);
  }
  for (int i = 0; i < kLanes; i += 4)
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

template <class T>
void pack_columns(const float* w, int kept, int reduced, int32_t* packed) {  // w: (kept, reduced)
  const int units = units_of<T>(reduced);
  for (int first = 0; first < kept; first += 2 * kLanes) {
    const int vectors = kept - first > kLanes ? 2 : 1;
    for (int v = 0; v < vectors; ++v)
      for (int unit = 0; unit < units; unit += kLanes) {
        const int begin = unit * T::kPack, column = first + v * kLanes;
        __m512i block[kLanes] = {};
        for (int c = 0; c < std::min(kLanes, kept - column); ++c)
          block[c] = units_at<T>(w + ptrdiff_t(column + c) * reduced + begin, reduced - begin);
        transpose(block);
        for (int u = 0; u < std::min(kLanes, units - unit); ++u)
          _mm512_storeu_si512(packed + ((unit + u) * vectors + v) * kLanes, block[u]);
      }
    packed += units * vectors * kLanes;
  }
}

template <class T>
void pack(const Plan& plan, const float* const* parameters, size_t first_transposed, char* packed) {
  using Element = typename T::Element;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const Layer& layer = plan.layers[l];
    const float *weight = parameters[2 * l], *bias = parameters[2 * l + 1];
    pack_rows<T>(weight, layer.in, layer.out, reinterpret_cast<Element*>(packed + layer.forward));
    if (l >= first_transposed)
      pack_columns<T>(weight, layer.in, layer.out, reinterpret_cast<int32_t*>(packed + layer.transposed));
    float* start = reinterpret_cast<float*>(packed + layer.bias);
    const bool pixels = plan.bernoulli && l + 1 == plan.layers.size();
    std::fill_n(start, width_of(layer.out), pixels ? kNever : 0.f);
    std::copy_n(bias, layer.out, start);
  }
}

// ---- rows ----------------------------------------------------------------------------------------------------------

template <class T>
void round_rows(const float* from, int columns, int rows, typename T::Element* to) {
  for (int row = 0; row < rows; ++row, from += columns)
    for (int column = 0; column < columns; column += kLanes, to += kLanes)
      T::store(to, _mm512_maskz_loadu_ps(mask_of(columns - column), from + column));
}

// gradient at the results of the last activation -> at its sums
template <class T>
void round_gradient(const float* gradient, const float* result, int activation, int columns, int rows,
                    typename T::Element* to) {
  for (int row = 0; row < rows; ++row, gradient += columns, result += columns)
    for (int column = 0; column < columns; column += kLanes, to += kLanes) {
      const __mmask16 mask = mask_of(columns - column);
      const __m512 slope = derivative(activation, _mm512_maskz_loadu_ps(mask, result + column));
      T::store(to, _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, gradient + column), slope));
    }
}

template <class T>
void scale_rows(typename T::Element* rows, int width, int count, const float* factors) {
  for (int row = 0; row < count; ++row) {
    const __m512 factor = _mm512_set1_ps(factors[row]);
    for (int column = 0; column < width; column += kLanes, rows += kLanes)
      T::store(rows, _mm512_mul_ps(factor, T::load(rows)));
  }
}

template <class T>
void add_column_sums(float* sums, bool fresh, const typename T::Element* rows, int count, int columns) {
  const int width = width_of(columns);
  for (int column = 0; column < columns; column += kLanes) {
    const __mmask16 mask = mask_of(columns - column);
    __m512 sum = _mm512_maskz_loadu_ps(fresh ? 0 : mask, sums + column);
    for (int row = 0; row < count; ++row) sum = _mm512_add_ps(sum, T::load(rows + size_t(row) * width + column));
    _mm512_mask_storeu_ps(sums + column, mask, sum);
  }
}

inline void add(float* total, const float* part, size_t count) {
  for (size_t i = 0; i < count; ++i) total[i] += part[i];
}

// two bfloat16 rows side by side, element by element; an odd last row goes with zeros
inline const int32_t* interleave(const uint16_t* rows, int count, int width, int32_t* pairs) {
  int32_t* to = pairs;
  for (int row = 0; row < count; row += 2)
    for (int column = 0; column < width; column += kLanes, to += kLanes) {
      const uint16_t* at = rows + size_t(row) * width + column;
      const auto wide = [](const uint16_t* p) {
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      };
      const __m512i second = row + 1 < count ? _mm512_slli_epi32(wide(at + width), 16) : _mm512_setzero_si512();
      _mm512_storeu_si512(to, _mm512_or_si512(wide(at), second));
    }
  return pairs;
}

}  // namespace
