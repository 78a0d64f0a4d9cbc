// Self-attention of texts, softmax(q k / sqrt(d)) v of each head, forward and backward, for CPUs with AVX-512.
//
// A strip of rows at a time passes all keys, so that its scores stay in the second-level cache. Scores and sums are
// float32 in both number formats: scores rounded to bfloat16 make training diverge. The backward pass computes the
// weights again from the logarithm of each row's sum. A thread takes a head of a text, so that results do not depend on
// the number of threads.
#pragma once

#include <cmath>

#include "../../../native/formats.h"
#include "../../../native/functions.h"
#include "../../../native/scratch.h"
#include "convolution.h"

namespace {

constexpr float kHidden = -1e30f;  // score of a key that is masked

struct AttentionShape {
  int32_t batch, length, channels, heads, threads;
};

// One head of one text: `rows` has queries, keys and values side by side, `step` numbers to the next position.
template <class T>
struct Head {
  using Element = typename T::Element;
  const Element* rows;
  const uint8_t* mask;
  int length, channels, width, keys;  // keys: `length` rounded up to whole tiles
  int step() const { return 3 * channels; }
  int units() const { return width / T::kPack; }
  const Element* query(int t) const { return rows + size_t(t) * step(); }
  const Element* key(int t) const { return query(t) + channels; }
  const Element* value(int t) const { return query(t) + 2 * channels; }
  float scale() const { return 1.0f / std::sqrt(float(width)); }
};

// Rows as left factors: (count, width) without gaps
template <class E>
void gather_rows(const E* rows, size_t step, int count, int width, int32_t* to) {
  for (int r = 0; r < count; ++r) std::memcpy(reinterpret_cast<E*>(to) + size_t(r) * width, rows + r * step, width * sizeof(E));
}

// Rows, of which each becomes a column: [tile of 32 rows][unit][row]; those behind `length` are zero
template <class T>
void columns_of_rows(const typename T::Element* rows, size_t step, int length, int padded, int units, int32_t* to) {
  for (int t = 0; t < padded; ++t) {
    int32_t* column = to + size_t(t / kColumns) * units * kColumns + t % kColumns;
    for (int u = 0; u < units; ++u) {
      int32_t unit = 0;
      if (t < length) std::memcpy(&unit, rows + size_t(t) * step + u * T::kPack, sizeof unit);
      column[size_t(u) * kColumns] = unit;
    }
  }
}

// Rows as right factors: [tile of 32 columns][kPack rows][column]; rows behind `length` are zero
template <class T>
void right_factor(const typename T::Element* rows, size_t step, int length, int padded, int width, int32_t* to) {
  const auto load = [&](int t, int c) { return t < length ? T::load(rows + size_t(t) * step + c) : _mm512_setzero_ps(); };
  for (int tile = 0; tile < width; tile += kColumns)
    for (int t = 0; t < padded; t += T::kPack)
      for (int half = 0; half < kColumns; half += kLanes, to += kLanes) {
        const int c = tile + half;
        T::store_unit(reinterpret_cast<typename T::Element*>(to), load(t, c), load(t + T::kPack - 1, c));
      }
}

// (count, width) as panels of 16 channels, each a row of 16 units for kPack rows: factors of an outer product
template <class T>
void outer_panels(const typename T::Element* rows, size_t step, int count, int width, int32_t* to, size_t panel) {
  const auto load = [&](int r, int c) { return r < count ? T::load(rows + r * step + c) : _mm512_setzero_ps(); };
  for (int c = 0; c < width; c += kLanes, to += panel) {
    int32_t* place = to;
    for (int r = 0; r < count; r += T::kPack, place += kLanes)
      T::store_unit(reinterpret_cast<typename T::Element*>(place), load(r, c), load(r + T::kPack - 1, c));
    std::fill(place, to + panel, 0);
  }
}

// `result` (count, tiles of 32 columns) = left (count, units) times the tiles of `right`
template <class T>
void multiply(const int32_t* left, int count, int units, const int32_t* right, int columns, float* result) {
  const auto zero = [](int, int) { return _mm512_setzero_ps(); };
  for (int column = 0; column < columns; column += kColumns, right += size_t(units) * kColumns)
    product<T>(left, count, units, right, zero, [&](int row, __m512 first, __m512 second) {
      float* to = result + size_t(row) * columns + column;
      _mm512_storeu_ps(to, first);
      _mm512_storeu_ps(to + kLanes, second);
    });
}

template <class T>
void store_row(const float* from, int width, float factor, typename T::Element* to) {
  const __m512 all = _mm512_set1_ps(factor);
  for (int c = 0; c < width; c += kLanes) T::store(to + c, _mm512_mul_ps(all, _mm512_loadu_ps(from + c)));
}

// What is added to the scores of each key: 0, or kHidden where it is masked or behind the text
inline float* bias_of(const uint8_t* mask, int length, int keys) {
  float* bias = scratch<float>(0, keys);
  for (int t = 0; t < keys; ++t) bias[t] = t < length && mask[t] ? 0.0f : kHidden;
  return bias;
}

// Scores become weights times their sum; returns the sum and the highest score.
inline std::pair<float, float> exponentials(float* scores, const float* bias, int keys, float scale) {
  const __m512 factor = _mm512_set1_ps(scale);
  __m512 highest = _mm512_set1_ps(kHidden), sum = _mm512_setzero_ps();
  for (int k = 0; k < keys; k += kLanes) {
    const __m512 score = _mm512_fmadd_ps(_mm512_loadu_ps(scores + k), factor, _mm512_loadu_ps(bias + k));
    highest = _mm512_max_ps(highest, score);
    _mm512_storeu_ps(scores + k, score);
  }
  const float most = _mm512_reduce_max_ps(highest);
  for (int k = 0; k < keys; k += kLanes) {
    const __m512 score = _mm512_loadu_ps(scores + k);
    const __mmask16 shown = _mm512_cmp_ps_mask(score, _mm512_set1_ps(kHidden / 2), _CMP_GT_OQ);
    const __m512 weight = _mm512_maskz_mov_ps(shown, exponential(_mm512_sub_ps(score, _mm512_set1_ps(most))));
    sum = _mm512_add_ps(sum, weight);
    _mm512_storeu_ps(scores + k, weight);
  }
  return {_mm512_reduce_add_ps(sum), most};
}

// What a head sees, (length, width) `step` numbers apart; `totals` (or null): the logarithm of each row's sum
template <class T>
void attend(const Head<T>& head, typename T::Element* seen, float* totals) {
  using Element = typename T::Element;
  const int units = head.units(), width = head.width, keys = head.keys, pairs = keys / T::kPack;
  const float* bias = bias_of(head.mask, head.length, keys);
  int32_t* queries = scratch<int32_t>(1, size_t(kStrip) * units);
  int32_t* right_keys = scratch<int32_t>(2, size_t(keys) * units);
  int32_t* right_values = scratch<int32_t>(3, size_t(pairs) * width);
  float* scores = scratch<float>(4, size_t(kStrip) * keys);
  int32_t* weights = scratch<int32_t>(5, size_t(kStrip) * pairs);
  float* result = scratch<float>(6, size_t(kStrip) * width);
  columns_of_rows<T>(head.key(0), head.step(), head.length, keys, units, right_keys);
  right_factor<T>(head.value(0), head.step(), head.length, keys, width, right_values);
  [[maybe_unused]] const Tiles<T> tiles_of_thread;
  for (int first = 0; first < head.length; first += kStrip) {
    const int count = std::min(kStrip, head.length - first);
    gather_rows(head.query(first), head.step(), count, width, queries);
    multiply<T>(queries, count, units, right_keys, keys, scores);
    for (int r = 0; r < count; ++r) {
      const auto [sum, highest] = exponentials(scores + size_t(r) * keys, bias, keys, head.scale());
      store_row<T>(scores + size_t(r) * keys, keys, 1.0f / sum, reinterpret_cast<Element*>(weights) + size_t(r) * keys);
      if (totals) totals[first + r] = highest + std::log(sum);
    }
    multiply<T>(weights, count, pairs, right_values, width, result);
    for (int r = 0; r < count; ++r) store_row<T>(result + size_t(r) * width, width, 1.0f, seen + size_t(first + r) * head.channels);
  }
}

// Scores become weights, and `to_weights` the gradient at the scores, both in T's format.
template <class T>
void gradient_of_scores(const float* scores, const float* to_weights, const float* bias, int keys, float scale, float total,
                        typename T::Element* weights, typename T::Element* to_scores) {
  const __m512 factor = _mm512_set1_ps(scale), all = _mm512_set1_ps(total);
  const auto weight_of = [&](int k) {
    const __m512 hidden = _mm512_loadu_ps(bias + k);
    const __mmask16 shown = _mm512_cmp_ps_mask(hidden, _mm512_setzero_ps(), _CMP_EQ_OQ);
    return _mm512_maskz_mov_ps(shown, exponential(_mm512_fmsub_ps(_mm512_loadu_ps(scores + k), factor, all)));
  };
  __m512 sum = _mm512_setzero_ps();
  for (int k = 0; k < keys; k += kLanes) {
    const __m512 weight = weight_of(k);
    T::store(weights + k, weight);
    sum = _mm512_fmadd_ps(weight, _mm512_loadu_ps(to_weights + k), sum);
  }
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum));
  for (int k = 0; k < keys; k += kLanes) {
    const __m512 change = _mm512_sub_ps(_mm512_loadu_ps(to_weights + k), mean);
    T::store(to_scores + k, _mm512_mul_ps(_mm512_mul_ps(weight_of(k), change), factor));
  }
}

// The gradient at queries, keys and values of a head, from that at what it saw.
template <class T>
void attend_back(const Head<T>& head, const typename T::Element* to_seen, const float* totals, typename T::Element* to_rows) {
  using Element = typename T::Element;
  const int units = head.units(), width = head.width, keys = head.keys, pairs = keys / T::kPack, step = head.step();
  const size_t panel = panel_size<T>(steps_of<T>(kStrip));
  const float* bias = bias_of(head.mask, head.length, keys);
  int32_t* left = scratch<int32_t>(1, size_t(kStrip) * units);
  int32_t* right_keys = scratch<int32_t>(2, 2 * size_t(keys) * units + size_t(pairs) * width);
  int32_t *right_values = right_keys + size_t(keys) * units, *keys_by_row = right_values + size_t(keys) * units;
  float* scores = scratch<float>(3, size_t(kStrip) * (2 * keys + width));
  float *to_weights = scores + size_t(kStrip) * keys, *result = to_weights + size_t(kStrip) * keys;
  int32_t* weights = scratch<int32_t>(4, 2 * size_t(kStrip) * pairs);
  int32_t* to_scores = weights + size_t(kStrip) * pairs;
  int32_t* panels = scratch<int32_t>(5, panel * (keys + width) / kLanes);
  int32_t* right_panels = panels + panel * keys / kLanes;
  float* to_keys = scratch<float>(6, 2 * size_t(keys) * width);
  float* to_values = to_keys + size_t(keys) * width;
  std::fill(to_keys, to_keys + 2 * size_t(keys) * width, 0.0f);
  columns_of_rows<T>(head.key(0), step, head.length, keys, units, right_keys);
  columns_of_rows<T>(head.value(0), step, head.length, keys, units, right_values);
  right_factor<T>(head.key(0), step, head.length, keys, width, keys_by_row);
  // sums (keys, width) += what each key has of a strip, times its rows
  const auto add_outer = [&](float* sums, const int32_t* by_key, const Element* rows, size_t apart, int count) {
    const int steps = steps_of<T>(count);
    const size_t size = panel_size<T>(steps);
    outer_panels<T>(reinterpret_cast<const Element*>(by_key), keys, count, keys, panels, size);
    outer_panels<T>(rows, apart, count, width, right_panels, size);
    add_product<T>(sums, keys, width, panels, right_panels, steps, size);
  };
  [[maybe_unused]] const Tiles<T> tiles_of_thread;
  for (int first = 0; first < head.length; first += kStrip) {
    const int count = std::min(kStrip, head.length - first);
    const Element* gradient = to_seen + size_t(first) * head.channels;
    gather_rows(head.query(first), step, count, width, left);
    multiply<T>(left, count, units, right_keys, keys, scores);
    gather_rows(gradient, head.channels, count, width, left);
    multiply<T>(left, count, units, right_values, keys, to_weights);
    for (int r = 0; r < count; ++r) {
      const size_t row = size_t(r) * keys;
      gradient_of_scores<T>(scores + row, to_weights + row, bias, keys, head.scale(), totals[first + r],
                            reinterpret_cast<Element*>(weights) + row, reinterpret_cast<Element*>(to_scores) + row);
    }
    multiply<T>(to_scores, count, pairs, keys_by_row, width, result);
    for (int r = 0; r < count; ++r) store_row<T>(result + size_t(r) * width, width, 1.0f, to_rows + size_t(first + r) * step);
    add_outer(to_values, weights, gradient, head.channels, count);
    add_outer(to_keys, to_scores, head.query(first), step, count);
  }
  for (int t = 0; t < head.length; ++t) {
    Element* row = to_rows + size_t(t) * step + head.channels;
    store_row<T>(to_keys + size_t(t) * width, width, 1.0f, row);
    store_row<T>(to_values + size_t(t) * width, width, 1.0f, row + head.channels);
  }
}

template <class T>
Head<T> head_of(const AttentionShape& shape, int text, int head, const void* rows, const uint8_t* mask) {
  mask += size_t(text) * shape.length;
  int length = shape.length;
  while (length > 0 && !mask[length - 1]) --length;
  const int width = shape.channels / shape.heads;
  const auto* first = static_cast<const typename T::Element*>(rows) + 3 * size_t(text) * shape.length * shape.channels;
  return {first + head * width, mask, length, shape.channels, width, (length + kColumns - 1) / kColumns * kColumns};
}

// seen (batch, length, channels) is zero behind a text's end; totals (batch, heads, length) or null
template <class T>
void attend_batch(const AttentionShape& shape, const void* rows, const uint8_t* mask, void* seen, float* totals) {
  using Element = typename T::Element;
#pragma omp parallel for schedule(dynamic) num_threads(shape.threads)
  for (int i = 0; i < shape.batch * shape.heads; ++i) {
    const int text = i / shape.heads, h = i % shape.heads;
    const Head<T> head = head_of<T>(shape, text, h, rows, mask);
    Element* to = static_cast<Element*>(seen) + size_t(text) * shape.length * shape.channels + h * head.width;
    attend(head, to, totals ? totals + size_t(i) * shape.length : nullptr);
    for (int t = head.length; t < shape.length; ++t) std::fill_n(to + size_t(t) * shape.channels, head.width, Element(0));
  }
}

template <class T>
void attend_back_batch(const AttentionShape& shape, const void* rows, const uint8_t* mask, const void* to_seen,
                       const float* totals, void* to_rows) {
  using Element = typename T::Element;
#pragma omp parallel for schedule(dynamic) num_threads(shape.threads)
  for (int i = 0; i < shape.batch * shape.heads; ++i) {
    const int text = i / shape.heads, h = i % shape.heads;
    const size_t place = size_t(text) * shape.length * shape.channels + h * (shape.channels / shape.heads);
    const Head<T> head = head_of<T>(shape, text, h, rows, mask);
    Element* to = static_cast<Element*>(to_rows) + 3 * size_t(text) * shape.length * shape.channels + h * head.width;
    attend_back(head, static_cast<const Element*>(to_seen) + place, totals + size_t(i) * shape.length, to);
    for (int t = head.length; t < shape.length; ++t)
      for (int part = 0; part < 3; ++part)
        std::fill_n(to + size_t(t) * head.step() + part * shape.channels, head.width, Element(0));
  }
}

}  // namespace
