// A block of rows through a stack of dense layers and back: what one thread does.
#pragma once

#include <utility>
#include <vector>

#include "../../../native/scratch.h"
#include "elementwise.h"
#include "layout.h"
#include "products.h"

namespace {

// ---- what happens to a register tile before it is stored -----------------------------------------------------------

template <class T>
constexpr Digits kDigitsOf = T::kPack == 2 ? kCoarse : kFine;

template <class T>
struct Activate {  // activated sums as input of the next layer
  typename T::Element* target;
  int width, activation;
  void operator()(const Tile& tile) const {
    for (int r = 0; r < tile.rows; ++r)
      for (int v = 0; v < tile.vectors; ++v)
        T::store(target + size_t(tile.first_row + r) * width + tile.column + v * kLanes,
                 activated<kDigitsOf<T>>(activation, tile.sum(r, v)));
  }
};

struct Output {  // activated sums as float32 rows without padding
  float* target;
  int width, activation;
  void operator()(const Tile& tile) const {
    for (int r = 0; r < tile.rows; ++r)
      for (int v = 0; v < tile.vectors; ++v)
        _mm512_mask_storeu_ps(target + size_t(tile.first_row + r) * width + tile.column + v * kLanes, tile.masks[v],
                              activated(activation, tile.sum(r, v)));
  }
};

template <class T>
struct Chain {  // times the derivative of the activation whose results are `values`
  typename T::Element* target;
  const typename T::Element* values;
  int width, activation;
  void operator()(const Tile& tile) const {
    for (int r = 0; r < tile.rows; ++r)
      for (int v = 0; v < tile.vectors; ++v) {
        const size_t at = size_t(tile.first_row + r) * width + tile.column + v * kLanes;
        T::store(target + at, _mm512_mul_ps(tile.sum(r, v), derivative(activation, T::load(values + at))));
      }
  }
};

// sum over pixels of x l - log(1 + exp l). The factors 1 + exp(-|l|) are multiplied and the logarithm taken once per
// row; each is at most 2. With kKeep the derivative x - sigmoid(l) is stored.
template <class T, bool kKeep>
struct BernoulliSums {
  const float* const* images;  // of each row, its pixels
  float *linear, *factors;  // (rows, 16)
  typename T::Element* residual;
  int width;
  void operator()(const Tile& tile) const {
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.f);
    for (int r = 0; r < tile.rows; ++r) {
      const int row = tile.first_row + r;
      const float* image = images[row] + tile.column;
      __m512 total = _mm512_load_ps(linear + row * kLanes), product = _mm512_load_ps(factors + row * kLanes);
      for (int v = 0; v < tile.vectors; ++v) {
        const __m512 logit = tile.sum(r, v), pixel = _mm512_maskz_loadu_ps(tile.masks[v], image + v * kLanes);
        const __m512 decay = power_of_two<kDigitsOf<T>>(_mm512_mul_ps(_mm512_abs_ps(logit), _mm512_set1_ps(-kLog2E)));
        total = _mm512_sub_ps(_mm512_fmadd_ps(pixel, logit, total), _mm512_max_ps(logit, zero));
        product = _mm512_fmadd_ps(product, decay, product);
        if (!kKeep) continue;
        const __mmask16 negative = _mm512_cmp_ps_mask(logit, zero, _CMP_LT_OQ);
        const __m512 below = reciprocal(_mm512_add_ps(one, decay));
        const __m512 sigmoid = _mm512_mul_ps(_mm512_mask_mov_ps(one, negative, decay), below);
        T::store(residual + size_t(row) * width + tile.column + v * kLanes, _mm512_sub_ps(pixel, sigmoid));
      }
      _mm512_store_ps(linear + row * kLanes, total);
      _mm512_store_ps(factors + row * kLanes, product);
    }
  }
};

// ---- forward -------------------------------------------------------------------------------------------------------

struct Pixels {
  const float* x;
  int first_row, k;
};

template <class T>
struct Pass {
  using Element = typename T::Element;
  const Plan& plan;
  const char* packed;

  const float* bias(const Layer& layer) const { return reinterpret_cast<const float*>(packed + layer.bias); }
  const int32_t* weights(size_t offset) const { return reinterpret_cast<const int32_t*>(packed + offset); }

  template <class Finish>
  void layer_product(const Layer& layer, const Element* input, int rows, const Finish& finish) const {
    multiply<T>(input, width_of<T>(layer.in), rows, units_of<T>(layer.in), weights(layer.forward), layer.out, bias(layer),
                finish);
  }

  // the log-likelihoods of rows whose last hidden layer is `input`
  template <bool kKeep>
  void likelihood(const Layer& layer, const Element* input, int rows, Pixels pixels, Element* residual,
                  float* result) const {
    float* linear = scratch<float>(0, T::kBlock * kLanes);
    float* factors = scratch<float>(1, T::kBlock * kLanes);
    std::fill_n(linear, rows * kLanes, 0.f);
    std::fill_n(factors, rows * kLanes, 1.f);
    const float* images[T::kBlock];
    for (int row = 0; row < rows; ++row)
      images[row] = pixels.x + size_t((pixels.first_row + row) / pixels.k) * layer.out;
    const BernoulliSums<T, kKeep> sums{images, linear, factors, residual, width_of<T>(layer.out)};
    double logs[T::kBlock] = {};
    constexpr int kMostColumns = 60 * kLanes;  // 960 factors of at most 2 each are a finite double
    for (int first = 0; first < layer.out; first += kMostColumns) {
      const int last = std::min(first + kMostColumns, layer.out);
      multiply_columns<T>(input, width_of<T>(layer.in), rows, units_of<T>(layer.in), weights(layer.forward), first, last,
                          layer.out, bias(layer), sums);
      for (int row = 0; row < rows; ++row) {
        double product = 1;
        for (int lane = 0; lane < kLanes; ++lane) product *= factors[row * kLanes + lane];
        logs[row] += std::log(product);
        std::fill_n(factors + row * kLanes, kLanes, 1.f);
      }
    }
    for (int row = 0; row < rows; ++row)
      result[row] = _mm512_reduce_add_ps(_mm512_load_ps(linear + row * kLanes)) - float(logs[row]);
  }

  // one block of rows; records[l]: the input of layer l, there already for l = 0, and last the derivative of the
  // likelihood
  void forward(int rows, const std::vector<Element*>& records, bool keep, Pixels pixels, float* result) const {
    for (size_t l = 0; l < plan.layers.size(); ++l) {
      const Layer& layer = plan.layers[l];
      if (l + 1 < plan.layers.size())
        layer_product(layer, records[l], rows, Activate<T>{records[l + 1], width_of<T>(layer.out), plan.activation});
      else if (!plan.bernoulli)
        layer_product(layer, records[l], rows, Output{result, layer.out, plan.last_activation});
      else if (keep)
        likelihood<true>(layer, records[l], rows, pixels, records[l + 1], result);
      else
        likelihood<false>(layer, records[l], rows, pixels, nullptr, result);
    }
  }

  // ---- backward

  // `factor` (rows x layer.out): gradient at the sums of the last layer; it may lie in scratch 1. The gradients of
  // the parameters are added to, or overwritten where they are `fresh`.
  void backward(int rows, const std::vector<Element*>& records, const Element* factor, float* const* gradients,
                bool fresh, float* to_input) const {
    Element* below = scratch<Element>(2, size_t(T::kBlock) * plan.widest);
    Element* next = scratch<Element>(1, size_t(T::kBlock) * plan.widest);
    for (size_t l = plan.layers.size(); l-- > 0;) {
      const Layer& layer = plan.layers[l];
      weight_gradient(gradients[2 * l], fresh, layer, records[l], factor, rows);
      add_column_sums<T>(gradients[2 * l + 1], fresh, factor, rows, layer.out);
      const float* zeros = scratch_zeros(plan.widest);
      const auto through = [&](const auto& finish) {
        multiply<T>(factor, width_of<T>(layer.out), rows, units_of<T>(layer.out), weights(layer.transposed), layer.in,
                    zeros, finish);
      };
      if (l > 0) {
        through(Chain<T>{below, records[l], width_of<T>(layer.in), plan.activation});
        factor = below;
        std::swap(below, next);
      } else if (to_input) {
        through(Output{to_input, layer.in, kLinear});
      }
    }
  }

  static const float* scratch_zeros(int count) {
    float* zeros = scratch<float>(5, count);
    std::fill_n(zeros, count, 0.f);
    return zeros;
  }

  // from `rows` inputs and gradients; pairs of them for bfloat16
  void weight_gradient(float* gradient, bool fresh, const Layer& layer, const Element* x, const Element* z,
                       int rows) const {
    const int inputs = width_of<T>(layer.in), outputs = width_of<T>(layer.out);
    const auto buffer = [](int index, int width) { return scratch<int32_t>(index, size_t(T::kBlock / 2) * width); };
    if constexpr (T::kTiles) {
      const int steps = (rows + kTileDepth - 1) / kTileDepth * kTileRows;
      add_weight_gradient_by_tiles(gradient, fresh, layer.in, layer.out,
                                   interleave_transposed(x, rows, steps, inputs, buffer(3, inputs)),
                                   interleave(z, rows, steps, outputs, buffer(4, outputs)), outputs, steps);
    } else if constexpr (T::kPack == 2) {
      const int steps = (rows + 1) / 2;
      add_weight_gradient<T>(gradient, fresh, layer.in, layer.out,
                             interleave(x, rows, steps, inputs, buffer(3, inputs)),
                             interleave(z, rows, steps, outputs, buffer(4, outputs)), steps);
    } else {
      add_weight_gradient<T>(gradient, fresh, layer.in, layer.out, reinterpret_cast<const int32_t*>(x),
                             reinterpret_cast<const int32_t*>(z), rows);
    }
  }

  std::vector<Element*> places(char* record, int capacity) const {
    std::vector<Element*> found;
    for (const Layer& layer : plan.layers) {
      found.push_back(reinterpret_cast<Element*>(record));
      record += size_t(capacity) * width_of<T>(layer.in) * sizeof(Element);
    }
    found.push_back(reinterpret_cast<Element*>(record));
    return found;
  }
};

}  // namespace
