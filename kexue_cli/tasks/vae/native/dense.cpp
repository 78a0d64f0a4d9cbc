// A stack of dense layers, forward and backward, for CPUs with AVX-512; its end is a linear layer, an activation, or
// the Bernoulli log-likelihood of binary (or gray) pixels, which then is never written out pixel by pixel.
//
// Rows are draws: `k` rows in turn belong to one image. A register tile is 12 rows x 32 outputs; bias, activation and
// likelihood are computed on it before anything is stored. The float32 and bfloat16 forms are one template: the unit
// of arithmetic is 32 bits, one float, or two bfloat16 for vdpbf16ps, which multiplies pairs and sums in float32.
// Weights stay float32 outside; they are packed for every step, and gradients come back as float32.

#include "elementwise.h"
#include "layout.h"
#include "products.h"

namespace {

constexpr int kBlock = 120;  // rows that pass all layers before the next ones: activations stay in the cache

template <class E>
E* scratch(int index, size_t count) {  // grows once, then is reused: no allocation in the steady state
  thread_local std::vector<char> buffers[6];
  std::vector<char>& buffer = buffers[index];
  if (buffer.size() < count * sizeof(E) + 64) buffer.resize(count * sizeof(E) + 64);
  return reinterpret_cast<E*>((reinterpret_cast<uintptr_t>(buffer.data()) + 63) / 64 * 64);
}

// ---- what happens to a register tile before it is stored -----------------------------------------------------------

template <class T>
struct Activate {  // activated sums as input of the next layer
  typename T::Element* target;
  int width, activation;
  void operator()(const Tile& tile) const {
    for (int r = 0; r < tile.rows; ++r)
      for (int v = 0; v < tile.vectors; ++v)
        T::store(target + size_t(tile.first_row + r) * width + tile.column + v * kLanes,
                 activated(activation, tile.sum(r, v)));
  }
};

struct Output {  // activated sums as float32 rows without padding
  float* target;
  int width, activation;
  void operator()(const Tile& tile) const {
    for (int r = 0; r < tile.rows; ++r)
      for (int v = 0; v < tile.vectors; ++v)
        _mm512_mask_storeu_ps(target + size_t(tile.first_row + r) * width + tile.column + v * kLanes, tile.mask(v),
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
  const float* x;  // (images, pixels)
  int pixels, first_row, k;
  float *linear, *factors;  // (rows, 16)
  typename T::Element* residual;
  int width;
  void operator()(const Tile& tile) const {
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.f);
    for (int r = 0; r < tile.rows; ++r) {
      const int row = tile.first_row + r;
      const float* image = x + size_t((first_row + row) / k) * pixels + tile.column;
      __m512 total = _mm512_load_ps(linear + row * kLanes), product = _mm512_load_ps(factors + row * kLanes);
      for (int v = 0; v < tile.vectors; ++v) {
        const __m512 logit = tile.sum(r, v), pixel = _mm512_maskz_loadu_ps(tile.mask(v), image + v * kLanes);
        const __m512 decay = exp_of_negative(_mm512_sub_ps(zero, _mm512_abs_ps(logit)));
        const __m512 factor = _mm512_add_ps(one, decay);
        total = _mm512_sub_ps(_mm512_fmadd_ps(pixel, logit, total), _mm512_max_ps(logit, zero));
        product = _mm512_mul_ps(product, factor);
        if (!kKeep) continue;
        const __mmask16 negative = _mm512_cmp_ps_mask(logit, zero, _CMP_LT_OQ);
        const __m512 sigmoid = _mm512_mul_ps(_mm512_mask_mov_ps(one, negative, decay), reciprocal(factor));
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
    multiply<T>(input, width_of(layer.in), rows, units_of<T>(layer.in), weights(layer.forward), layer.out, bias(layer),
                finish);
  }

  // the log-likelihoods of rows whose last hidden layer is `input`
  template <bool kKeep>
  void likelihood(const Layer& layer, const Element* input, int rows, Pixels pixels, Element* residual,
                  float* result) const {
    float* linear = scratch<float>(0, kBlock * kLanes);
    float* factors = scratch<float>(1, kBlock * kLanes);
    std::fill_n(linear, rows * kLanes, 0.f);
    std::fill_n(factors, rows * kLanes, 1.f);
    const BernoulliSums<T, kKeep> sums{pixels.x, layer.out,  pixels.first_row, pixels.k, linear,
                                       factors,  residual, width_of(layer.out)};
    double logs[kBlock] = {};
    constexpr int kMostColumns = 60 * kLanes;  // 960 factors of at most 2 each are a finite double
    for (int first = 0; first < layer.out; first += kMostColumns) {
      const int last = std::min(first + kMostColumns, layer.out);
      multiply_columns<T>(input, width_of(layer.in), rows, units_of<T>(layer.in), weights(layer.forward), first, last,
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

  // one block of rows; records[l]: where the input of layer l goes, and last the derivative of the likelihood
  void forward(const float* input, int rows, const std::vector<Element*>& records, bool keep, Pixels pixels,
               float* result) const {
    round_rows<T>(input, plan.layers.front().in, rows, records[0]);
    for (size_t l = 0; l < plan.layers.size(); ++l) {
      const Layer& layer = plan.layers[l];
      if (l + 1 < plan.layers.size())
        layer_product(layer, records[l], rows, Activate<T>{records[l + 1], width_of(layer.out), plan.activation});
      else if (!plan.bernoulli)
        layer_product(layer, records[l], rows, Output{result, layer.out, plan.last_activation});
      else if (keep)
        likelihood<true>(layer, records[l], rows, pixels, records[l + 1], result);
      else
        likelihood<false>(layer, records[l], rows, pixels, nullptr, result);
    }
  }

  // ---- backward

  // `factor` (rows x layer.out): gradient at the sums of the last layer, overwritten by those below
  void backward(int rows, const std::vector<Element*>& records, Element* factor, float* const* gradients,
                float* to_input) const {
    Element* below = scratch<Element>(2, size_t(kBlock) * plan.widest);
    for (size_t l = plan.layers.size(); l-- > 0;) {
      const Layer& layer = plan.layers[l];
      add_weight_gradient<T>(gradients[2 * l], layer.in, layer.out, pairs<T>(records[l], rows, width_of(layer.in), 3),
                             pairs<T>(factor, rows, width_of(layer.out), 4), rows);
      add_column_sums<T>(gradients[2 * l + 1], factor, rows, layer.out);
      const float* zeros = scratch_zeros(plan.widest);
      const auto through = [&](const auto& finish) {
        multiply<T>(factor, width_of(layer.out), rows, units_of<T>(layer.out), weights(layer.transposed), layer.in,
                    zeros, finish);
      };
      if (l > 0) {
        through(Chain<T>{below, records[l], width_of(layer.in), plan.activation});
        std::swap(below, factor);
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

  // rows as the weight gradient reads them: themselves, or for bfloat16 two rows side by side
  template <class U>
  static const int32_t* pairs(const Element* rows, int count, int width, int index) {
    if constexpr (U::kPack == 1) return reinterpret_cast<const int32_t*>(rows);
    else return interleave(rows, count, width, scratch<int32_t>(index, size_t(kBlock + 1) / 2 * width));
  }

  std::vector<Element*> places(char* record, int capacity) const {
    std::vector<Element*> found;
    for (const Layer& layer : plan.layers) {
      found.push_back(reinterpret_cast<Element*>(record));
      record += size_t(capacity) * width_of(layer.in) * sizeof(Element);
    }
    found.push_back(reinterpret_cast<Element*>(record));
    return found;
  }
};

template <class T>
void forward(const Plan& plan, const char* packed, const float* input, int rows, const float* x, int first_row, int k,
             char* records, float* result) {
  const Pass<T> pass{plan, packed};
  const int outputs = plan.bernoulli ? 1 : plan.layers.back().out;
  const size_t size = record_bytes(plan, kBlock);
  char* own = records ? nullptr : scratch<char>(2, size);
  for (int first = 0; first < rows; first += kBlock) {
    const int count = std::min(kBlock, rows - first);
    char* record = records ? records + first / kBlock * size : own;
    pass.forward(input + size_t(first) * plan.layers[0].in, count, pass.places(record, kBlock), records != nullptr,
                 {x, first_row + first, k}, result + size_t(first) * outputs);
  }
}

template <class T>
void backward(const Plan& plan, const char* packed, char* records, int rows, const float* result,
              const float* to_result, float* const* gradients, float* to_input) {
  const Pass<T> pass{plan, packed};
  const Layer& last = plan.layers.back();
  const size_t size = record_bytes(plan, kBlock);
  for (int first = 0; first < rows; first += kBlock) {
    const int count = std::min(kBlock, rows - first);
    const auto places = pass.places(records + first / kBlock * size, kBlock);
    auto* factor = places.back();
    if (plan.bernoulli) {
      scale_rows<T>(factor, width_of(last.out), count, to_result + first);
    } else {
      const size_t at = size_t(first) * last.out;
      factor = scratch<typename T::Element>(1, size_t(kBlock) * plan.widest);
      round_gradient<T>(to_result + at, result + at, plan.last_activation, last.out, count, factor);
    }
    pass.backward(count, places, factor, gradients, to_input ? to_input + size_t(first) * plan.layers[0].in : nullptr);
  }
}

}  // namespace

extern "C" {

int dense_has_bfloat16() {
#ifdef __AVX512BF16__
  return 1;
#else
  return 0;
#endif
}

void* dense_plan(int bfloat16, int n_sizes, const int* sizes, int activation, int last_activation, int bernoulli) {
  return new Plan(make_plan(bfloat16, {sizes, sizes + n_sizes}, activation, last_activation, bernoulli));
}
void dense_free(void* plan) { delete static_cast<Plan*>(plan); }
int64_t dense_packed_bytes(const void* plan) { return static_cast<const Plan*>(plan)->packed_bytes; }
int64_t dense_record_bytes(const void* plan, int rows) {
  return record_bytes(*static_cast<const Plan*>(plan), kBlock) * ((rows + kBlock - 1) / kBlock);
}

#ifdef __AVX512BF16__
#define IN_FORMAT(call) (plan.bfloat16 ? call<BFloat16> : call<Float32>)
#else
#define IN_FORMAT(call) call<Float32>
#endif

// layers from `first_transposed` on are packed for the backward pass too
void dense_pack(const void* plan_, const float* const* parameters, int first_transposed, char* packed) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
  IN_FORMAT(pack)(plan, parameters, first_transposed, packed);
}

void dense_forward(const void* plan_, const char* packed, const float* input, int rows, const float* x, int first_row,
                   int k, char* records, float* result) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
  IN_FORMAT(forward)(plan, packed, input, rows, x, first_row, k, records, result);
}

void dense_backward(const void* plan_, const char* packed, char* records, int rows, const float* result,
                    const float* to_result, float* const* gradients, float* to_input) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
  IN_FORMAT(backward)(plan, packed, records, rows, result, to_result, gradients, to_input);
}

}  // extern "C"
