// The head and the cross entropy of its logits, whose gradient takes the logits' place.
#pragma once

#include "elementwise.h"

namespace {

constexpr int kVocabularyBlock = 96;  // tokens of the vocabulary whose gradients are summed at a time

struct HeadShape {
  int tokens, width, vocabulary, threads;
};

// logits (tokens, vocabulary) = states (tokens, width) weight^T
inline void head_logits(const HeadShape& s, const float* states, const float* weight, float* logits) {
  const int panels = (s.vocabulary + kPanel - 1) / kPanel;
#pragma omp parallel for num_threads(s.threads)
  for (int p = 0; p < panels; ++p) {
    const int first = p * kPanel;
    product(s.tokens, s.width, std::min(kPanel, s.vocabulary - first), rows_of(states, s.width),
            transposed(weight + size_t(first) * s.width, s.width), logits + first, s.vocabulary);
  }
}

// One row of logits becomes softmax - (1 at the target); returns the cross entropy. A negative target counts nothing.
inline float cross_entropy(float* row, int count, int64_t target) {
  if (target < 0) return std::fill_n(row, count, 0.0f), 0.0f;
  Vector largest = all(-INFINITY), sum = _mm512_setzero_ps();
  for (int c = 0; c < count; c += kLanes) {
    const __mmask16 valid = first_lanes(count - c);
    largest = _mm512_mask_max_ps(largest, valid, largest, _mm512_maskz_loadu_ps(valid, row + c));
  }
  const float top = _mm512_reduce_max_ps(largest), logit = row[target];
  for (int c = 0; c < count; c += kLanes) {
    const __mmask16 valid = first_lanes(count - c);
    const Vector e = exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(valid, row + c), all(top)));
    sum = _mm512_mask_add_ps(sum, valid, sum, e);
    _mm512_mask_storeu_ps(row + c, valid, e);
  }
  const float total = _mm512_reduce_add_ps(sum);
  for (int c = 0; c < count; c += kLanes) {
    const __mmask16 valid = first_lanes(count - c);
    _mm512_mask_storeu_ps(row + c, valid, _mm512_mul_ps(_mm512_maskz_loadu_ps(valid, row + c), all(1 / total)));
  }
  row[target] -= 1;
  return std::log(total) + top - logit;
}

inline void head_forward(const HeadShape& s, const float* states, const float* weight, const int64_t* targets, float* logits,
                         float* losses) {
  head_logits(s, states, weight, logits);
#pragma omp parallel for num_threads(s.threads)
  for (int t = 0; t < s.tokens; ++t) losses[t] = cross_entropy(logits + size_t(t) * s.vocabulary, s.vocabulary, targets[t]);
}

// gradient: what head_forward left in the place of the logits, times `scale`
inline void head_backward(const HeadShape& s, const float* states, const float* weight, float scale, float* gradient,
                          float* to_states, float* to_weight) {
  const int blocks = (s.vocabulary + kVocabularyBlock - 1) / kVocabularyBlock;
#pragma omp parallel num_threads(s.threads)
  {
#pragma omp for
    for (int t = 0; t < s.tokens; ++t)
      for (int c = 0; c < s.vocabulary; ++c) gradient[size_t(t) * s.vocabulary + c] *= scale;
#pragma omp for schedule(static, 1)
    for (int i = 0; i < s.threads; ++i) {
      const int first = int64_t(s.tokens) * i / s.threads, count = int64_t(s.tokens) * (i + 1) / s.threads - first;
      product(count, s.vocabulary, s.width, rows_of(gradient + size_t(first) * s.vocabulary, s.vocabulary),
              rows_of(weight, s.width), to_states + size_t(first) * s.width, s.width);
    }
#pragma omp for
    for (int b = 0; b < blocks; ++b) {
      const int first = b * kVocabularyBlock;
      product(std::min(kVocabularyBlock, s.vocabulary - first), s.tokens, s.width,
              transposed(gradient + first, s.vocabulary), rows_of(states, s.width), to_weight + size_t(first) * s.width,
              s.width);
    }
  }
}

}  // namespace
