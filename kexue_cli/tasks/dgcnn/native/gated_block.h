// The gated dilated block y = x (1 - s) + value s, s = sigmoid(gate), forward and backward, for CPUs with AVX-512.
//
// Value and gate of a channel come out of the convolution in one register tile, so that bias, dropout, gate and mask are
// applied before anything is stored. Beside y the forward pass stores the slopes of y by value and by gate: times the
// gradient at y they are the gradient at the convolution's results. Texts of a batch are divided among OpenMP threads;
// each chunk of them sums its own weight gradient, so that results do not depend on the number of threads.
//
// The float32 and bfloat16 forms are one template (see formats.h); bfloat16 products have float32 sums.

#pragma once

#include "../../../native/functions.h"
#include "convolution.h"
#include "dropout.h"

namespace {

constexpr int kGroup = 256;  // pairs whose weight gradient is one product: fewer, and loading its sums would show

struct BlockShape {
  int32_t batch, length, channels, dilation, threads, chunks;
  int32_t locked;  // dropout takes a channel at all positions of a text
  Dropout dropout;
};

// Which gates of text n are kept, 32 of them in a word: (length, channels / 32)
inline const uint32_t* kept_gates(const BlockShape& shape, int n, int length) {
  const int words = shape.channels / 32;
  uint32_t* kept = scratch<uint32_t>(4, size_t(length) * words);
  for (int t = 0; t < length; ++t)
    for (int w = 0; w < words; ++w)
      kept[t * words + w] = shape.locked && t > 0
                                ? kept[w]
                                : kept_of_32(shape.dropout, uint32_t(n * shape.length + t) * words + w);
  return kept;
}

inline int length_of(const uint8_t* mask, int longest) {  // without the padding at the end
  while (longest > 0 && !mask[longest - 1]) --longest;
  return longest;
}

// y, and if `slopes` is not null those by value and by gate, (length, 2 channels)
template <class T>
void forward(const BlockShape& shape, int n, const typename T::Element* x, const uint8_t* mask, const int32_t* weights,
             const float* bias, typename T::Element* y, typename T::Element* slopes) {
  using Element = typename T::Element;
  const int channels = shape.channels, length = length_of(mask, shape.length);
  const auto* kept = reinterpret_cast<const uint16_t*>(kept_gates(shape, n, length));
  const __m512 scale = _mm512_set1_ps(shape.dropout.scale), one = _mm512_set1_ps(1.0f);
  convolve<T>(Text<T>(x, length, channels, shape.dilation), weights, channels / kLanes, bias,
              [&](int tile, int t, __m512 value, __m512 gate) {
                const size_t place = size_t(t) * channels + tile * kLanes;
                const __mmask16 shown = mask[t] ? 0xffff : 0;
                const __m512 factor = _mm512_maskz_mov_ps(kept[t * (channels / kLanes) + tile], scale);
                const __m512 s = sigmoid(_mm512_mul_ps(gate, factor)), input = T::load(x + place);
                const __m512 change = _mm512_mul_ps(_mm512_sub_ps(value, input), s);
                T::store(y + place, _mm512_maskz_add_ps(shown, input, change));
                if (!slopes) return;
                Element* row = slopes + size_t(t) * 2 * channels + tile * kLanes;
                const __m512 by_gate = _mm512_mul_ps(_mm512_mul_ps(change, factor), _mm512_sub_ps(one, s));
                T::store(row, _mm512_maskz_mov_ps(shown, s));
                T::store(row + channels, _mm512_maskz_mov_ps(shown, by_gate));
              });
  std::fill(y + size_t(length) * channels, y + size_t(shape.length) * channels, Element(0));
}

// The gradient at value and gate, (length, 2 channels); its sums are added to `to_bias`.
template <class T>
void spread(int length, int channels, const typename T::Element* to_y, const typename T::Element* slopes,
            typename T::Element* z, float* to_bias) {
  for (int t = 0; t < length; ++t, to_y += channels)
    for (int half = 0; half < 2; ++half)
      for (int c = 0; c < channels; c += kLanes, slopes += kLanes, z += kLanes) {
        const __m512 gradient = _mm512_mul_ps(T::load(to_y + c), T::load(slopes));
        float* sum = to_bias + half * channels + c;
        _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), gradient));
        T::store(z, gradient);
      }
}

// The gradient at x: through the convolution and past it; zero behind the text's end.
template <class T>
void gradient_of_input(const BlockShape& shape, const Text<T>& z, const uint8_t* mask, const int32_t* weights,
                       const typename T::Element* to_y, const typename T::Element* slopes, typename T::Element* to_x) {
  const int channels = shape.channels;
  static const float zeros[kWidest] = {};
  const __m512 one = _mm512_set1_ps(1.0f);
  convolve<T>(z, weights, channels / kColumns, zeros, [&](int tile, int t, __m512 left, __m512 right) {
    const size_t place = size_t(t) * channels + tile * kColumns;
    const typename T::Element* s = slopes + size_t(t) * 2 * channels + tile * kColumns;
    const auto past = [&](int lane) {
      const __m512 share = _mm512_maskz_sub_ps(mask[t] ? 0xffff : 0, one, T::load(s + lane));
      return _mm512_mul_ps(share, T::load(to_y + place + lane));
    };
    T::store(to_x + place, _mm512_add_ps(left, past(0)));
    T::store(to_x + place + kLanes, _mm512_add_ps(right, past(kLanes)));
  });
  std::fill(to_x + size_t(z.length) * channels, to_x + size_t(shape.length) * channels, typename T::Element(0));
}

template <class T>
void backward(const BlockShape& shape, int begin, int end, const typename T::Element* x, const uint8_t* mask,
              const int32_t* weights, const typename T::Element* slopes, const typename T::Element* to_y,
              typename T::Element* to_x, float* to_weights, float* to_bias) {
  using Element = typename T::Element;
  const int columns = 2 * shape.channels;
  const size_t area = size_t(shape.length) * shape.channels;
  Element* gradients = scratch<Element>(5, size_t(2 * kGroup + shape.length) * columns);
  std::vector<Text<T>> inputs, results;
  int pairs = 0;
  size_t rows = 0;
  for (int n = begin; n < end; ++n) {
    const uint8_t* shown = mask + size_t(n) * shape.length;
    const int length = length_of(shown, shape.length);
    Element* z = gradients + rows * columns;
    spread<T>(length, shape.channels, to_y + n * area, slopes + 2 * n * area, z, to_bias);
    inputs.push_back({x + n * area, length, shape.channels, shape.dilation});
    results.push_back({z, length, columns, shape.dilation});
    gradient_of_input<T>(shape, results.back(), shown, weights, to_y + n * area, slopes + 2 * n * area, to_x + n * area);
    pairs += inputs.back().pairs.size(), rows += length;
    if (pairs < kGroup && n + 1 < end) continue;
    add_weight_gradient(inputs, results, to_weights);
    inputs.clear(), results.clear(), pairs = 0, rows = 0;
  }
}

template <class T>
void forward_batch(const BlockShape& shape, const void* x, const uint8_t* mask, const int32_t* weights, const float* bias,
                   void* y, void* slopes) {
  using Element = typename T::Element;
  const size_t area = size_t(shape.length) * shape.channels;
#pragma omp parallel for schedule(dynamic) num_threads(shape.threads)
  for (int n = 0; n < shape.batch; ++n)
    forward<T>(shape, n, static_cast<const Element*>(x) + n * area, mask + size_t(n) * shape.length,
               weights, bias, static_cast<Element*>(y) + n * area,
               slopes ? static_cast<Element*>(slopes) + 2 * n * area : nullptr);
}

template <class T>
void backward_batch(const BlockShape& shape, const void* x, const uint8_t* mask, const int32_t* weights, const void* slopes,
                    const void* to_y, void* to_x, float* to_weights, float* to_bias) {
  using Element = typename T::Element;
  const size_t columns = 2 * shape.channels, numbers = kProducts * shape.channels * columns;
#pragma omp parallel for schedule(dynamic) num_threads(shape.threads)
  for (int chunk = 0; chunk < shape.chunks; ++chunk)
    backward<T>(shape, int64_t(shape.batch) * chunk / shape.chunks, int64_t(shape.batch) * (chunk + 1) / shape.chunks,
                static_cast<const Element*>(x), mask, weights,
                static_cast<const Element*>(slopes), static_cast<const Element*>(to_y), static_cast<Element*>(to_x),
                to_weights + chunk * numbers, to_bias + chunk * columns);
}

}  // namespace
