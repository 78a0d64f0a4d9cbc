// dropout(characters[id] + words), forward and backward, each in one pass over the rows.
#pragma once

#include "dropout.h"

namespace {

struct EmbeddingShape {
  int32_t rows, channels, threads;
  Dropout dropout;
};

// words (rows, channels), or null for none
template <class T>
void embed(const EmbeddingShape& shape, const int64_t* ids, const float* characters, const void* words_, void* result) {
  const int channels = shape.channels, blocks = channels / 32;
  const auto* words = static_cast<const typename T::Element*>(words_);
#pragma omp parallel for num_threads(shape.threads)
  for (int row = 0; row < shape.rows; ++row)
    for (int b = 0; b < blocks; ++b) {
      const uint32_t kept = kept_of_32(shape.dropout, uint32_t(row) * blocks + b);
      for (int half = 0; half < 2; ++half) {
        const int c = b * 32 + half * kLanes;
        const size_t place = size_t(row) * channels + c;
        __m512 value = _mm512_loadu_ps(characters + ids[row] * channels + c);
        if (words) value = _mm512_add_ps(value, T::load(words + place));
        T::store(static_cast<typename T::Element*>(result) + place, _mm512_mul_ps(value, factors(shape.dropout, kept, half)));
      }
    }
}

// to_words (or null) is written, to_characters added to; a thread takes all rows of its channels.
template <class T>
void embed_backward(const EmbeddingShape& shape, const int64_t* ids, const void* gradient, void* to_words,
                    float* to_characters) {
  const int channels = shape.channels, blocks = channels / 32;
#pragma omp parallel for num_threads(shape.threads)
  for (int b = 0; b < blocks; ++b)
    for (int row = 0; row < shape.rows; ++row) {
      const uint32_t kept = kept_of_32(shape.dropout, uint32_t(row) * blocks + b);
      for (int half = 0; half < 2; ++half) {
        const int c = b * 32 + half * kLanes;
        const size_t place = size_t(row) * channels + c;
        const __m512 from = T::load(static_cast<const typename T::Element*>(gradient) + place);
        const __m512 value = _mm512_mul_ps(from, factors(shape.dropout, kept, half));
        if (to_words) T::store(static_cast<typename T::Element*>(to_words) + place, value);
        float* sum = to_characters + ids[row] * channels + c;
        _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), value));
      }
    }
}

}  // namespace
