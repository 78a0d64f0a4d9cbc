// Causal attention of one head, in blocks of queries so that only a strip of scores exists at a time.
#pragma once

#include "elementwise.h"

namespace {

constexpr int kQueries = 32;  // of a block

// Where queries, keys and values of one head of one sequence lie: rows `step` floats apart, in one array.
struct Head {
  const float *query, *key, *value;
  int time, width;
  ptrdiff_t step;
  float scale;
};

// Softmax of the scores of `rows` queries from number `first` on, in place; later keys get zero.
inline void causal_softmax(float* scores, int rows, int first, int columns, ptrdiff_t width, float scale, float* log_sums) {
  for (int r = 0; r < rows; ++r, scores += width) {
    const int seen = first + r + 1;
    Vector largest = all(-INFINITY);
    for (int j = 0; j < seen; j += kLanes)
      largest = _mm512_mask_max_ps(largest, first_lanes(seen - j), largest, _mm512_loadu_ps(scores + j));
    const float top = _mm512_reduce_max_ps(largest) * scale;
    Vector sum = _mm512_setzero_ps();
    for (int j = 0; j < columns; j += kLanes) {
      const Vector e = _mm512_maskz_mov_ps(
          first_lanes(seen - j), exponential(_mm512_fmsub_ps(_mm512_loadu_ps(scores + j), all(scale), all(top))));
      sum = _mm512_add_ps(sum, e);
      _mm512_storeu_ps(scores + j, e);
    }
    const float total = _mm512_reduce_add_ps(sum);
    log_sums[r] = top + std::log(total);
    for (int j = 0; j < columns; j += kLanes)
      _mm512_storeu_ps(scores + j, _mm512_mul_ps(_mm512_loadu_ps(scores + j), all(1 / total)));
  }
}

inline int padded(int count) { return (count + kLanes - 1) / kLanes * kLanes; }

// mixed: (time, width), rows `mixed_step` apart; log_sums: (time), for the backward pass
inline void attend(const Head& head, float* mixed, ptrdiff_t mixed_step, float* log_sums) {
  const int strip = padded(head.time);
  float* scores = scratch<1>(size_t(kQueries) * strip);
  for (int first = 0; first < head.time; first += kQueries) {
    const int rows = std::min(kQueries, head.time - first), keys = first + rows;
    product(rows, head.width, keys, rows_of(head.query + first * head.step, head.step),
            transposed(head.key, head.step), scores, strip);
    causal_softmax(scores, rows, first, padded(keys), strip, head.scale, log_sums + first);
    product(rows, keys, head.width, rows_of(scores, strip), rows_of(head.value, head.step), mixed + first * mixed_step,
            mixed_step);
  }
}

// Scores become probabilities, and the gradients of probabilities those of scores.
inline void scores_backward(float* scores, float* gradient, int rows, int first, int columns, ptrdiff_t width, float scale,
                            const float* log_sums, const float* deltas) {
  for (int r = 0; r < rows; ++r, scores += width, gradient += width)
    for (int j = 0; j < columns; j += kLanes) {
      const Vector logarithm = _mm512_fmsub_ps(_mm512_loadu_ps(scores + j), all(scale), all(log_sums[r]));
      const Vector p = _mm512_maskz_mov_ps(first_lanes(first + r + 1 - j), exponential(logarithm));
      const Vector difference = _mm512_sub_ps(_mm512_loadu_ps(gradient + j), all(deltas[r]));
      _mm512_storeu_ps(scores + j, p);
      _mm512_storeu_ps(gradient + j, _mm512_mul_ps(_mm512_mul_ps(p, difference), all(scale)));
    }
}

inline float dot(const float* a, const float* b, int width) {
  Vector sum = _mm512_setzero_ps();
  for (int c = 0; c < width; c += kLanes) sum = _mm512_fmadd_ps(_mm512_loadu_ps(a + c), _mm512_loadu_ps(b + c), sum);
  return _mm512_reduce_add_ps(sum);
}

// to_query, to_key, to_value: rows head.step apart, zero at first; mixed and its gradient: rows `mixed_step` apart
inline void attend_backward(const Head& head, const float* mixed, const float* to_mixed, ptrdiff_t mixed_step,
                            const float* log_sums, float* to_query, float* to_key, float* to_value) {
  const int strip = padded(head.time);
  float* scores = scratch<1>(size_t(kQueries) * strip);
  float* to_scores = scratch<2>(size_t(kQueries) * strip);
  float deltas[kQueries];
  for (int first = 0; first < head.time; first += kQueries) {
    const int rows = std::min(kQueries, head.time - first), keys = first + rows;
    const float *query = head.query + first * head.step, *gradient = to_mixed + first * mixed_step;
    for (int r = 0; r < rows; ++r)
      deltas[r] = dot(gradient + r * mixed_step, mixed + (first + r) * mixed_step, head.width);
    product(rows, head.width, keys, rows_of(query, head.step), transposed(head.key, head.step), scores, strip);
    product(rows, head.width, keys, rows_of(gradient, mixed_step), transposed(head.value, head.step), to_scores,
            strip);
    scores_backward(scores, to_scores, rows, first, padded(keys), strip, head.scale, log_sums + first, deltas);
    product(rows, keys, head.width, rows_of(to_scores, strip), rows_of(head.key, head.step), to_query + first * head.step,
            head.step);
    product(keys, rows, head.width, transposed(to_scores, strip), rows_of(query, head.step), to_key, head.step, true);
    product(keys, rows, head.width, transposed(scores, strip), rows_of(gradient, mixed_step), to_value, head.step, true);
  }
}

}  // namespace
