// What is stored where, and the passes that only move numbers: packing weights, rounding rows, pairing rows.
#pragma once

#include <cmath>
#include <vector>

#include "../../../native/formats.h"
#include "../../../native/tiles.h"
#include "../../../native/transpose.h"
#include "elementwise.h"

namespace {

constexpr float kNever = -1e4f;  // bias of the padding behind the last pixel: its probability is 0, its logarithm 0

// Numbers below 1e-38 count as 0 while this lives: weights of draws are often that small, and arithmetic with them takes
// some processors a hundred times as long.
struct TinyAsZero {
  const unsigned before = _mm_getcsr();
  TinyAsZero() { _mm_setcsr(before | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON); }
  ~TinyAsZero() { _mm_setcsr(before); }
};

// How a number format is multiplied. kBlock: at most so many rows pass all layers before the next ones, so that
// activations stay in the cache; kRows: room is for a multiple of so many; kWidth: what a stored row is padded to a
// multiple of, in elements; Scope lives while a thread computes.
struct InRegisters {
  static constexpr int kBlock = 120, kRows = 4, kWidth = kLanes;
  static constexpr bool kTiles = false;
  using Scope = TinyAsZero;
};
struct Single : Float32, InRegisters {};
#ifdef __AVX512BF16__
struct Half : BFloat16, InRegisters {};
#endif
#ifdef __AMX_BF16__
struct TiledHalf : BFloat16 {
  static constexpr int kBlock = 128, kRows = 32, kWidth = 2 * kLanes;
  static constexpr bool kTiles = true;
  struct Scope : TinyAsZero {  // tiles in use are saved whenever threads are switched
    Scope() { shape_tiles(kTileDepth); }
    ~Scope() { release_tiles(); }
  };
};
#endif

struct Layer {
  int in, out;
  size_t forward, bias;  // byte offsets in what is packed for the forward pass
  size_t transposed;     // and for the backward pass
};

enum Format { kSingle, kHalf, kTiledHalf };

struct Plan {
  Format format;
  bool bernoulli;
  int activation, last_activation;
  std::vector<Layer> layers;
  int widest = 0, most_rows = 0, row_multiple = 0;  // of a block
  size_t packed_bytes = 0, gradient_floats = 0;  // of a cell; packed for either pass
  size_t row_bytes = 0;  // of a record: the input of every layer, and the derivative of the likelihood
};

// Pieces of work of about equal size, and the blocks of each; fixed by the rows alone, so that the number of threads
// changes no bit.
struct Shares {
  static constexpr int kMost = 512;  // rows of a share
  int rows, count, blocks, block;    // in all; shares; blocks of a share, rows of a block

  Shares(const Plan& plan, int rows) : rows(rows), count(parts(rows, kMost)) {
    blocks = parts(parts(rows, count), plan.most_rows);
    block = parts(parts(rows, count * blocks), plan.row_multiple) * plan.row_multiple;
  }
  int first(int share) const { return std::min(rows, share * blocks * block); }
  int size(int share) const { return first(share + 1) - first(share); }
  static int parts(int count, int size) { return std::max(1, (count + size - 1) / size); }
};

template <class T>
int width_of(int columns) {  // elements of a stored row
  return (columns + T::kWidth - 1) / T::kWidth * T::kWidth;
}

inline __mmask16 mask_of(int columns) {
  return columns >= kLanes ? 0xffff : static_cast<__mmask16>((1 << std::max(columns, 0)) - 1);
}

template <class T>
int units_of(int columns) {  // 32-bit units that a product goes through
  return T::kTiles ? width_of<T>(columns) / T::kPack : (columns + T::kPack - 1) / T::kPack;
}

template <class T>
int vectors_of(int columns) {  // registers of a row of at most 32 columns
  return T::kTiles || columns > kLanes ? 2 : 1;
}

size_t take(size_t& total, size_t bytes) {  // cache-line aligned
  const size_t offset = total;
  total += (bytes + 63) / 64 * 64;
  return offset;
}

template <class T>
void lay_out(Plan& plan, const std::vector<int>& sizes) {
  const auto bytes = [](int reduced, int kept) { return size_t(units_of<T>(reduced)) * width_of<T>(kept) * 4; };
  size_t recorded = plan.bernoulli ? width_of<T>(sizes.back()) : 0, back_bytes = 0;
  for (size_t l = 0; l + 1 < sizes.size(); ++l) {
    Layer layer{sizes[l], sizes[l + 1], 0, 0, 0};
    layer.forward = take(plan.packed_bytes, bytes(layer.in, layer.out));
    layer.bias = take(plan.packed_bytes, width_of<T>(layer.out) * sizeof(float));
    layer.transposed = take(back_bytes, bytes(layer.out, layer.in));
    plan.layers.push_back(layer);
    plan.gradient_floats += size_t(layer.in + 1) * layer.out;
    recorded += width_of<T>(layer.in);
  }
  for (int size : sizes) plan.widest = std::max(plan.widest, width_of<T>(size));
  plan.packed_bytes = std::max(plan.packed_bytes, back_bytes);
  plan.most_rows = T::kBlock, plan.row_multiple = T::kRows;
  plan.row_bytes = recorded * sizeof(typename T::Element);
}

size_t cell_record_bytes(const Plan& plan, int rows) {
  const Shares shares(plan, rows);
  return plan.row_bytes * shares.count * shares.blocks * shares.block;
}

// ---- packing: [tile of 32 columns][unit][column][element of the unit], the last tile 32 or, outside tile registers,
// 16 columns wide

template <class T>
void pack_rows(const float* w, int reduced, int kept, typename T::Element* packed) {  // w: (reduced, kept)
  const int units = units_of<T>(reduced);
  for (int unit = 0; unit < units; ++unit)  // row after row as they lie in memory
    for (int column = 0; column < width_of<T>(kept); column += kLanes) {
      const int tile = column / (2 * kLanes) * 2 * kLanes, row = unit * T::kPack;
      const int vectors = vectors_of<T>(kept - tile), v = (column - tile) / kLanes;
      const __mmask16 mask = row < reduced ? mask_of(kept - column) : 0;
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

template <class T>
void pack_columns(const float* w, int kept, int reduced, int32_t* packed) {  // w: (kept, reduced)
  const int units = units_of<T>(reduced);
  for (int first = 0; first < kept; first += 2 * kLanes) {
    const int vectors = vectors_of<T>(kept - first);
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
void pack_forward(const Plan& plan, const float* const* parameters, int cell, char* packed) {
  using Element = typename T::Element;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const Layer& layer = plan.layers[l];
    const float* weight = parameters[2 * l] + size_t(cell) * layer.in * layer.out;
    const float* bias = parameters[2 * l + 1] + size_t(cell) * layer.out;
    pack_rows<T>(weight, layer.in, layer.out, reinterpret_cast<Element*>(packed + layer.forward));
    float* start = reinterpret_cast<float*>(packed + layer.bias);
    const bool pixels = plan.bernoulli && l + 1 == plan.layers.size();
    std::fill_n(start, width_of<T>(layer.out), pixels ? kNever : 0.f);
    std::copy_n(bias, layer.out, start);
  }
}

template <class T>
void pack_backward(const Plan& plan, const float* const* parameters, int cell, size_t first_layer, char* packed) {
  for (size_t l = first_layer; l < plan.layers.size(); ++l) {
    const Layer& layer = plan.layers[l];
    const float* weight = parameters[2 * l] + size_t(cell) * layer.in * layer.out;
    pack_columns<T>(weight, layer.in, layer.out, reinterpret_cast<int32_t*>(packed + layer.transposed));
  }
}

// ---- rows ----------------------------------------------------------------------------------------------------------

template <class T>
void round_rows(const float* from, int columns, int rows, typename T::Element* to) {
  for (int row = 0; row < rows; ++row, from += columns)
    for (int column = 0; column < width_of<T>(columns); column += kLanes, to += kLanes)
      T::store(to, _mm512_maskz_loadu_ps(mask_of(columns - column), from + column));
}

// gradient at the results of the last activation -> at its sums
template <class T>
void round_gradient(const float* gradient, const float* result, int activation, int columns, int rows,
                    typename T::Element* to) {
  for (int row = 0; row < rows; ++row, gradient += columns, result += columns)
    for (int column = 0; column < width_of<T>(columns); column += kLanes, to += kLanes) {
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
  const int width = width_of<T>(columns);
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

// 16 elements of row `row` and of the next one side by side; rows from `count` on are zeros
inline __m512i pairs_at(const uint16_t* rows, int row, int count, int width, int column) {
  const auto wide = [&](int r) {
    const uint16_t* at = rows + size_t(r) * width + column;
    return r < count ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)))
                     : _mm512_setzero_si512();
  };
  return _mm512_or_si512(wide(row), _mm512_slli_epi32(wide(row + 1), 16));
}

// `steps` times two bfloat16 rows side by side, element by element
inline const int32_t* interleave(const uint16_t* rows, int count, int steps, int width, int32_t* pairs) {
  int32_t* to = pairs;
  for (int step = 0; step < steps; ++step)
    for (int column = 0; column < width; column += kLanes, to += kLanes)
      _mm512_storeu_si512(to, pairs_at(rows, 2 * step, count, width, column));
  return pairs;
}

// the same, but (width, steps): the pairs of one column in turn
inline const int32_t* interleave_transposed(const uint16_t* rows, int count, int steps, int width, int32_t* pairs) {
  for (int column = 0; column < width; column += kLanes)
    for (int first = 0; first < steps; first += kLanes) {
      __m512i block[kLanes];
      for (int step = 0; step < kLanes; ++step) block[step] = pairs_at(rows, 2 * (first + step), count, width, column);
      transpose(block);
      for (int c = 0; c < kLanes; ++c) _mm512_storeu_si512(pairs + size_t(column + c) * steps + first, block[c]);
    }
  return pairs;
}

}  // namespace
