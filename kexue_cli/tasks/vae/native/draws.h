// Draws from normal posteriors as input of a decoder; nothing of them but their density is ever in memory.
#pragma once

#include "../../../native/scratch.h"
#include "layout.h"
#include "normals.h"

namespace {

struct Posteriors {  // (cells, images, latents); k draws of each
  const float *mean, *log_var;
  int latents, k;
  uint64_t seed;

  int blocks() const { return (latents + kNormals - 1) / kNormals; }  // of normal numbers for a draw
};

// sigma in 16-lane steps; the sum of log_var
inline float deviations_of(const float* log_var, int latents, float* sigma) {
  __m512 sum = _mm512_setzero_ps();
  for (int at = 0; at < latents; at += kLanes) {
    const __m512 value = _mm512_maskz_loadu_ps(mask_of(latents - at), log_var + at);
    sum = _mm512_add_ps(sum, value);
    _mm512_storeu_ps(sigma + at, exponential(_mm512_mul_ps(_mm512_set1_ps(0.5f), value)));
  }
  return _mm512_reduce_add_ps(sum);
}

// z of the draw `row` of all; the squared length of its noise less that of z
template <class T>
float draw_row(const Posteriors& q, const float* mean, const float* sigma, size_t row, typename T::Element* z) {
  __m512 difference = _mm512_setzero_ps();
  for (int block = 0; block < q.blocks(); ++block) {
    __m512 noise[4];
    normals(q.seed, row * q.blocks() + block, noise);
    for (int v = 0; v < 4; ++v) {
      const int at = block * kNormals + v * kLanes;
      if (at >= width_of<T>(q.latents)) break;
      const __mmask16 mask = mask_of(q.latents - at);
      const __m512 e = _mm512_maskz_mov_ps(mask, noise[v]);
      const __m512 centre = _mm512_maskz_loadu_ps(mask, mean + at);
      const __m512 value = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, sigma + at), e, centre);
      difference = _mm512_fnmadd_ps(value, value, _mm512_fmadd_ps(e, e, difference));
      T::store(z + at, value);
    }
  }
  return _mm512_reduce_add_ps(difference);
}

// `count` draws from `first` on, counted over all cells and images, as rows for the decoder; log p(z) - log q(z|x)
template <class T>
void draw_rows(const Posteriors& q, size_t first, int count, typename T::Element* z, float* log_ratios) {
  float* sigma = scratch<float>(7, q.latents + kLanes);
  size_t image = ~size_t(0);
  float own = 0;
  for (int i = 0; i < count; ++i, z += width_of<T>(q.latents)) {
    const size_t row = first + i;
    if (row / q.k != image) {
      image = row / q.k;
      own = deviations_of(q.log_var + image * q.latents, q.latents, sigma);
    }
    log_ratios[i] = 0.5f * (draw_row<T>(q, q.mean + image * q.latents, sigma, row, z) + own);
  }
}

}  // namespace
