// The eight residual blocks of conv1d_res, forward and backward, for CPUs with AVX-512.
//
// Everything is channels-last, so one row is one wavelength and a vector register holds 16 channels of it.
// A convolution is a small matrix product computed straight from the rows of its input (no unfolded copy):
// 12 wavelengths x 32 channels of the result stay in registers while taps and input channels go by, and
// the pair (channel c, channel c + filters) lies in the same register tile, so bias, both ReLUs, their sum and
// the residual are added before anything is stored. The backward pass needs one bit per ReLU and per pool.
//
// The float32 and bfloat16 forms are one template. The unit of arithmetic is 32 bits: one float, or two
// bfloat16 for vdpbf16ps, which multiplies pairs and sums in float32. Where the processor has tile registers, most
// bfloat16 products are computed in them, 32 wavelengths x 32 channels at once. In bfloat16 the flux itself
// enters as two channels, its rounded value and the remainder, so that no digit of the data is lost.

#include "../../../native/scratch.h"
#include "plan.h"

namespace {

// ---- passes over one slice of samples ------------------------------------------------------------------------

template <class T>
struct Slice {
  using Element = typename T::Element;
  const Plan& plan;
  const Block& block;
  const char* packed;
  char* records;  // of the slice's first sample
  int samples;
  bool keep;  // signs of the ReLUs, for the backward pass

  Element* rows(int n, size_t offset, int channels) const {  // row of position 0
    return reinterpret_cast<Element*>(records + n * plan.record_bytes + offset) + ptrdiff_t(plan.pad) * channels;
  }
  uint16_t* bits(int n, size_t offset) const {
    return reinterpret_cast<uint16_t*>(records + n * plan.record_bytes + offset);
  }
  const float* bias(const Conv& conv) const { return reinterpret_cast<const float*>(packed + conv.bias); }
  size_t area() const { return size_t(block.length) * block.filters; }

  void clear_margins() const {
    auto clear = [&](size_t offset, int channels) {
      for (int n = 0; n < samples; ++n) {
        Element* first = rows(n, offset, channels);
        const size_t margin = size_t(plan.pad) * channels;
        std::fill(first - margin, first, Element(0));
        std::fill_n(first + size_t(block.length) * channels, margin, Element(0));
      }
    };
    for (const Conv& conv : block.convs) clear(conv.input, conv.in);
  }

  const int32_t* weights(const Conv& conv, size_t offset, int inner, int tile, int width) const {
    return reinterpret_cast<const int32_t*>(packed + offset) +
           size_t(tile) * conv.taps * (inner / T::kPack) * width * kLanes;
  }

  template <int V>
  void project(Element* result) const {
    const Conv& conv = block.skip;
    for (int tile = 0; tile < block.filters / (V * kLanes); ++tile)
      for (int n = 0; n < samples; ++n)
        convolution<T, V>(rows(n, block.input, block.in), block.length, block.in, 1, 1,
                       weights(conv, conv.forward, conv.in, tile, V), bias(conv) + tile * V * kLanes,
                       Store<T, V, false>{result + n * area() + tile * V * kLanes, block.filters});
  }

  // result(n) = relu(first half) + relu(second half) (+ residual(n)) of the convolution of sample n
  template <bool kShortcut, class Result, class Residual>
  void pair_sum(const Conv& conv, Result result, Residual residual) const {
    for (int tile = 0; tile < block.filters / kLanes; ++tile)
      for (int n = 0; n < samples; ++n) {
        const int c = tile * kLanes;
        auto run = [&](auto finish) {
          convolution<T, 2>(rows(n, conv.input, conv.in), block.length, conv.in, conv.taps, conv.dilation,
                         weights(conv, conv.forward, conv.in, tile, 2), bias(conv) + 2 * c, finish);
        };
        uint16_t* signs = bits(n, conv.bits) + tile * 2;
        const Element* shortcut = kShortcut ? residual(n) + c : nullptr;
        if (keep) run(PairSum<T, kShortcut, true>{result(n) + c, shortcut, signs, block.filters});
        else run(PairSum<T, kShortcut, false>{result(n) + c, shortcut, signs, block.filters});
      }
  }

  void forward(Element* result) const {  // (samples, length, filters)
    clear_margins();
    Element* shortcut = nullptr;
    if (block.project) {
      shortcut = scratch<Element>(1, samples * area());
      block.filters % (2 * kLanes) ? project<1>(shortcut) : project<2>(shortcut);
    }
    auto residual = [&](int n) -> const Element* {
      return shortcut ? shortcut + n * area() : rows(n, block.input, block.in);
    };
    for (size_t j = 0; j + 1 < block.convs.size(); ++j) {
      auto next = [&](int n) { return rows(n, block.convs[j + 1].input, block.filters); };
      pair_sum<false>(block.convs[j], next, residual);
    }
    pair_sum<true>(block.convs.back(), [&](int n) { return result + n * area(); }, residual);
  }

  void pool(const Element* y, const Block& next) const {  // the larger of two neighbours, the first of equals
    for (int n = 0; n < samples; ++n) {
      uint16_t* second = bits(n, block.pool_bits);
      Element* target = rows(n, next.input, block.filters);
      const Element* row = y + n * area();
      for (int position = 0; position < next.length; ++position, row += 2 * block.filters)
        for (int c = 0; c < block.filters; c += kLanes, target += kLanes) {
          const __m512 a = T::load(row + c), b = T::load(row + block.filters + c);
          const __mmask16 larger = _mm512_cmp_ps_mask(b, a, _CMP_NLE_UQ);
          *second++ = larger;
          T::store(target, _mm512_mask_mov_ps(a, larger, b));
        }
    }
  }

  void unpool(const Element* pooled, int half, Element* gradient) const {
    for (int n = 0; n < samples; ++n) {
      const uint16_t* second = bits(n, block.pool_bits);
      const Element* from = pooled + size_t(n) * half * block.filters;
      Element* row = gradient + n * area();
      for (int position = 0; position < half; ++position, row += 2 * block.filters)
        for (int c = 0; c < block.filters; c += kLanes, from += kLanes) {
          const __m512 value = T::load(from);
          const __mmask16 larger = *second++;
          T::store(row + c, _mm512_maskz_mov_ps(static_cast<__mmask16>(~larger), value));
          T::store(row + block.filters + c, _mm512_maskz_mov_ps(larger, value));
        }
      if (block.length % 2) std::fill_n(row, block.filters, Element(0));
    }
  }

  // The gradient of a sum of two ReLUs reaches each where it was positive: z is (samples, padded length, 2 filters).
  void spread(const Conv& conv, const Element* gradient, Element* z, float* bias_gradient) const {
    const int filters = block.filters, columns = 2 * filters;
    for (int n = 0; n < samples; ++n) {
      const size_t margin = size_t(plan.pad) * columns, body = size_t(block.length) * columns;
      Element* first = z + n * (body + 2 * margin);
      std::fill_n(first, margin, Element(0));
      std::fill_n(first + margin + body, margin, Element(0));
      for (int c = 0; c < filters; c += kLanes) {
        const uint16_t* pair = bits(n, conv.bits) + c / kLanes * 2;
        const Element* from = gradient + n * area() + c;
        Element* to = first + margin + c;
        __m512 sum_a = _mm512_setzero_ps(), sum_b = _mm512_setzero_ps();
        for (int position = 0; position < block.length; ++position) {
          const __m512 value = T::load(from);
          const __m512 a = _mm512_maskz_mov_ps(pair[0], value), b = _mm512_maskz_mov_ps(pair[1], value);
          T::store(to, a);
          T::store(to + filters, b);
          sum_a = _mm512_add_ps(sum_a, a);
          sum_b = _mm512_add_ps(sum_b, b);
          from += filters, to += columns, pair += filters / kLanes * 2;
        }
        _mm512_storeu_ps(bias_gradient + c, _mm512_add_ps(_mm512_loadu_ps(bias_gradient + c), sum_a));
        _mm512_storeu_ps(bias_gradient + filters + c,
                         _mm512_add_ps(_mm512_loadu_ps(bias_gradient + filters + c), sum_b));
      }
    }
  }

  // x beside its next row, so that one 32-bit unit holds two positions of a channel; every `stride` rows.
  static void position_pairs(const Element* x, int count, int channels, int stride, int32_t* pairs) {
    for (int r = 0; r < count; ++r, x += ptrdiff_t(stride) * channels)
      for (int c = 0; c < channels; ++c) *pairs++ = int32_t(uint32_t(x[c]) | uint32_t(x[c + channels]) << 16);
  }

  Rows input_rows(const Conv& conv) const {
    if constexpr (T::kPack == 1) {
      return {reinterpret_cast<const int32_t*>(rows(0, conv.input, conv.in)), conv.in, ptrdiff_t(plan.record_bytes / 4)};
    } else {
      const int count = block.length + 2 * plan.pad - 1;
      const size_t size = size_t(count) * conv.in;
      int32_t* pairs = scratch<int32_t>(2, samples * size);
      for (int n = 0; n < samples; ++n)
        position_pairs(rows(n, conv.input, conv.in) - ptrdiff_t(plan.pad) * conv.in, count, conv.in, 1,
                       pairs + n * size);
      return {pairs + ptrdiff_t(plan.pad) * conv.in, conv.in, ptrdiff_t(size)};
    }
  }

  // z: (samples, length, columns) with `stride` elements between samples -> `count` rows, for bfloat16 of two positions
  // each; those beyond the last position are zero
  Rows gradient_rows(const Element* z, int columns, size_t stride, int count) const {
    if constexpr (T::kPack == 1) {
      return {reinterpret_cast<const int32_t*>(z), columns, ptrdiff_t(stride)};
    } else {
      const int even = block.length / 2;
      const size_t size = size_t(count) * columns;
      int32_t* pairs = scratch<int32_t>(3, samples * size);
      for (int n = 0; n < samples; ++n) {
        const Element* first = z + n * stride;
        position_pairs(first, even, columns, 2, pairs + n * size);
        const Element* last = first + size_t(2 * even) * columns;
        int32_t* rest = std::copy_n(last, block.length % 2 * columns, pairs + n * size + size_t(even) * columns);
        std::fill(rest, pairs + (n + 1) * size, 0);
      }
      return {pairs, columns, ptrdiff_t(size)};
    }
  }

  // target = (target +) the gradient with respect to the input of `conv`, (samples, length, in)
  template <int V, bool kAdd>
  void input_gradient(const Conv& conv, const Element* z, size_t stride, Element* target) const {
    const float zeros[2 * kLanes] = {};
    for (int tile = 0; tile < conv.in / (V * kLanes); ++tile)
      for (int n = 0; n < samples; ++n)
        convolution<T, V>(z + n * stride, block.length, conv.out, conv.taps, conv.dilation,
                       weights(conv, conv.transposed, conv.out, tile, V), zeros,
                       Store<T, V, kAdd>{target + size_t(n) * block.length * conv.in + tile * V * kLanes, conv.in});
  }

  template <bool kAdd>
  void through(const Conv& conv, const Element* z, size_t stride, Element* target) const {
    tile_width(conv.in) == 2 ? input_gradient<2, kAdd>(conv, z, stride, target)
                             : input_gradient<1, kAdd>(conv, z, stride, target);
  }

  void weights_of(const Conv& conv, const Element* z, size_t stride, int true_in, float* gradients) const {
#ifdef __AMX_BF16__
    if constexpr (T::kPack == 2)
      if (tiles_take(conv.in)) return weights_by_tiles(conv, z, stride, gradients + conv.weight_gradient);
#endif
    const int steps = (block.length + T::kPack - 1) / T::kPack;
    const Rows x = input_rows(conv), factors = gradient_rows(z, conv.out, stride, steps);
    float* target = gradients + conv.weight_gradient;
    if (conv.in != true_in) {  // two parts of the flux, one weight
      target = scratch<float>(4, size_t(conv.taps) * conv.in * conv.out);
      std::fill_n(target, size_t(conv.taps) * conv.in * conv.out, 0.f);
    }
    if (tile_width(conv.out) == 2)
      weight_gradient<T, 2>(target, x, conv.in, factors, conv.out, samples, block.length, conv.taps, conv.dilation);
    else
      weight_gradient<T, 1>(target, x, conv.in, factors, conv.out, samples, block.length, conv.taps, conv.dilation);
    if (conv.in == true_in) return;
    for (int row = 0; row < conv.taps * conv.in; ++row)
      for (int o = 0; o < conv.out; ++o)
        gradients[conv.weight_gradient + size_t(row / plan.parts) * conv.out + o] += target[size_t(row) * conv.out + o];
  }

#ifdef __AMX_BF16__
  void weights_by_tiles(const Conv& conv, const Element* z, size_t stride, float* gradients) const {
    const int pairs = (block.length + kTileDepth - 1) / kTileDepth * kTileRows;
    const int width = (2 * pairs + 2 * plan.pad + kTileDepth - 1) / kTileDepth * kTileDepth;
    const size_t size = size_t(conv.in) * width;
    uint16_t* columns = scratch<uint16_t>(2, samples * size);
    for (int n = 0; n < samples; ++n)
      transpose_rows(rows(n, conv.input, conv.in), plan.pad, block.length + 2 * plan.pad, conv.in, width,
                     columns + n * size);
    weight_gradient_by_tiles(gradients, {columns + plan.pad, width, ptrdiff_t(size)}, conv.in,
                             gradient_rows(z, conv.out, stride, pairs), conv.out, samples, pairs, conv.taps,
                             conv.dilation);
  }
#endif

  // gradient: (samples, length, filters), overwritten; to_input: (samples, length, in), or null for the flux
  void backward(Element* gradient, Element* to_input, int true_in, float* gradients) const {
    if (block.project) {
      float* bias_gradient = gradients + block.skip.bias_gradient;
      for (size_t row = 0; row < size_t(samples) * block.length; ++row)
        for (int c = 0; c < block.filters; ++c) bias_gradient[c] += T::widen(gradient[row * block.filters + c]);
      weights_of(block.skip, gradient, area(), true_in, gradients);
      if (to_input) through<false>(block.skip, gradient, area(), to_input);
    } else if (to_input) {
      std::copy_n(gradient, samples * area(), to_input);
    }
    const size_t stride = size_t(block.length + 2 * plan.pad) * 2 * block.filters;
    Element* z = scratch<Element>(5, samples * stride);
    const Element* body = z + size_t(plan.pad) * 2 * block.filters;
    for (size_t j = block.convs.size(); j-- > 0;) {
      const Conv& conv = block.convs[j];
      spread(conv, gradient, z, gradients + conv.bias_gradient);
      weights_of(conv, body, stride, j ? conv.in : true_in, gradients);
      if (j) through<false>(conv, body, stride, gradient);
      else if (to_input) through<true>(conv, body, stride, to_input);
    }
  }
};

// ---- passes over a chunk of a batch --------------------------------------------------------------------------

int slice_samples(const Plan& plan, const Block& block) {  // as many as the second-level cache holds
  constexpr size_t kBytes = 192 * 1024;
  return std::max<size_t>(1, kBytes / row_bytes(plan, block.length, 2 * block.filters));
}

template <class T>
void store_flux(const Plan& plan, const float* flux, char* record) {
  const Block& block = plan.blocks.front();
  auto* row = reinterpret_cast<typename T::Element*>(record + block.input) + size_t(plan.pad) * block.in;
  for (int i = 0; i < block.length * plan.in_channels; ++i) {
    const auto high = T::round(flux[i]);
    *row++ = high;
    if (plan.parts == 2) *row++ = T::round(flux[i] - T::widen(high));
  }
}

template <class T>
void forward(const Plan& plan, const char* packed, const float* flux, int samples, char* records, bool keep,
             float* features) {
  using Element = typename T::Element;
  for (int n = 0; n < samples; ++n)
    store_flux<T>(plan, flux + size_t(n) * plan.blocks[0].length * plan.in_channels, records + n * plan.record_bytes);
  for (size_t b = 0; b < plan.blocks.size(); ++b) {
    const Block& block = plan.blocks[b];
    const int step = slice_samples(plan, block);
    for (int n = 0; n < samples; n += step) {
      const Slice<T> slice{plan, block, packed, records + n * plan.record_bytes, std::min(step, samples - n), keep};
      Element* y = scratch<Element>(0, slice.samples * slice.area());
      slice.forward(y);
      if (block.pool) slice.pool(y, plan.blocks[b + 1]);
      else std::transform(y, y + slice.samples * slice.area(), features + n * slice.area(), T::widen);
    }
  }
}

template <class T>
void backward(const Plan& plan, const char* packed, char* records, int samples, const float* to_features,
              float* gradients) {
  using Element = typename T::Element;
  Element* above = nullptr;  // gradient with respect to the pooled output of the block, (samples, half, filters)
  for (size_t b = plan.blocks.size(); b-- > 0;) {
    const Block& block = plan.blocks[b];
    const size_t input_area = size_t(block.length) * block.in;
    Element* below = b ? scratch<Element>(6 + b % 2, samples * input_area) : nullptr;
    const int step = slice_samples(plan, block), half = block.length / 2;
    const int true_in = b ? block.in : plan.in_channels;
    for (int n = 0; n < samples; n += step) {
      const Slice<T> slice{plan, block, packed, records + n * plan.record_bytes, std::min(step, samples - n), true};
      Element* gradient = scratch<Element>(0, slice.samples * slice.area());
      if (above) slice.unpool(above + size_t(n) * half * block.filters, half, gradient);
      else std::transform(to_features + n * slice.area(), to_features + (n + slice.samples) * slice.area(), gradient,
                          T::round);
      slice.backward(gradient, below ? below + n * input_area : nullptr, true_in, gradients);
    }
    above = below;
  }
}

}  // namespace

extern "C" {

int trunk_has_bfloat16() {
#ifdef __AVX512BF16__
  return 1;
#else
  return 0;
#endif
}

void* trunk_plan(int bfloat16, int length, int in_channels, int n_filters, const int* filters, int n_dilations,
                 const int* dilations) {
  return new Plan(make_plan(bfloat16, length, in_channels, {filters, filters + n_filters},
                            {dilations, dilations + n_dilations}));
}
void trunk_free(void* plan) { delete static_cast<Plan*>(plan); }
int64_t trunk_record_bytes(const void* plan) { return static_cast<const Plan*>(plan)->record_bytes; }
int64_t trunk_packed_bytes(const void* plan) { return static_cast<const Plan*>(plan)->packed_bytes; }
int64_t trunk_gradient_floats(const void* plan) { return static_cast<const Plan*>(plan)->gradient_floats; }

void trunk_pack(const void* plan_, const float* const* parameters, char* packed) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
#ifdef __AVX512BF16__
  if (plan.bfloat16) return pack_all<BFloat16>(plan, parameters, packed);
#endif
  pack_all<Float32>(plan, parameters, packed);
}

void trunk_forward(const void* plan_, const char* packed, const float* flux, int samples, char* records,
                   int keep, float* features) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
#ifdef __AVX512BF16__
  if (plan.bfloat16) {
    const TilesInUse tiles;
    return forward<BFloat16>(plan, packed, flux, samples, records, keep, features);
  }
#endif
  forward<Float32>(plan, packed, flux, samples, records, keep, features);
}

void trunk_backward(const void* plan_, const char* packed, char* records, int samples, const float* to_features,
                    float* gradients) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
#ifdef __AVX512BF16__
  if (plan.bfloat16) {
    const TilesInUse tiles;
    return backward<BFloat16>(plan, packed, records, samples, to_features, gradients);
  }
#endif
  backward<Float32>(plan, packed, records, samples, to_features, gradients);
}

}  // extern "C"
