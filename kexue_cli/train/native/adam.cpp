// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019): one pass over all parameters, AVX-512.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kChunk = 16384;  // numbers that are updated in one go
constexpr int64_t kMany = 49152;   // that several threads take faster than one

struct Settings {
  double rate, beta1, beta2, eps, weight_decay;
  bool decoupled;  // AdamW: the decay is not part of the gradient
};

struct Moments {  // of one parameter
  float *values, *first, *second;
  const float* gradient;
};

struct Factors {  // of one parameter at its step
  __m512 rate, correction, pull, beta2, rest2, eps, decay;
  bool mostly_new;  // the first moment is nearer to the gradient than to what it was: interpolated from there
  Factors(const Settings& s, double step)
      : rate(all(s.rate / (1 - std::pow(s.beta1, step)))),
        correction(all(std::sqrt(1 - std::pow(s.beta2, step)))),
        beta2(all(s.beta2)), rest2(all(1 - s.beta2)), eps(all(s.eps)),
        decay(all(s.decoupled ? 1 - s.rate * s.weight_decay : s.weight_decay)), mostly_new(s.beta1 <= 0.5) {
    pull = _mm512_sub_ps(all(1 - s.beta1), all(mostly_new ? 1 : 0));
  }
  static __m512 all(double value) { return _mm512_set1_ps(float(value)); }
};

enum Decay { kNone, kInGradient, kDecoupled };

template <Decay kDecay>
inline void update_lanes(const Moments& p, const Factors& f, int64_t at, __mmask16 mask) {
  __m512 value = _mm512_maskz_loadu_ps(mask, p.values + at), gradient = _mm512_maskz_loadu_ps(mask, p.gradient + at);
  if constexpr (kDecay == kInGradient) gradient = _mm512_fmadd_ps(value, f.decay, gradient);
  if constexpr (kDecay == kDecoupled) value = _mm512_mul_ps(value, f.decay);
  const __m512 before = _mm512_maskz_loadu_ps(mask, p.first + at);
  const __m512 first = _mm512_fmadd_ps(_mm512_sub_ps(gradient, before), f.pull, f.mostly_new ? gradient : before);
  const __m512 square = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, p.second + at), f.beta2);
  const __m512 second = _mm512_fmadd_ps(_mm512_mul_ps(f.rest2, gradient), gradient, square);
  const __m512 length = _mm512_add_ps(_mm512_div_ps(_mm512_sqrt_ps(second), f.correction), f.eps);
  value = _mm512_sub_ps(value, _mm512_div_ps(_mm512_mul_ps(f.rate, first), length));
  _mm512_mask_storeu_ps(p.first + at, mask, first);
  _mm512_mask_storeu_ps(p.second + at, mask, second);
  _mm512_mask_storeu_ps(p.values + at, mask, value);
}

template <Decay kDecay>
void update(const Moments& p, const Factors& f, int64_t begin, int64_t end) {
  int64_t at = begin;
  for (; at + kLanes <= end; at += kLanes) update_lanes<kDecay>(p, f, at, 0xffff);
  if (at < end) update_lanes<kDecay>(p, f, at, static_cast<__mmask16>((1 << (end - at)) - 1));
}

// where one of several pieces of about equal size begins, at whole registers
int64_t border(int64_t size, int piece, int pieces) {
  return piece == pieces ? size : size * piece / pieces / kLanes * kLanes;
}

}  // namespace

extern "C" {

// `steps` (one float32 number each) count up by one; all else has sizes[i] numbers for parameter i. Each thread takes
// one piece of every parameter, the same at every step: where a network's threads do so too, its numbers stay in the
// cache of a core. Every other step goes from the last chunk to the first: moments that do not all fit the cache are
// partly there still.
void adam_step(int count, float* const* values, const float* const* gradients, float* const* first,
               float* const* second, float* const* steps, const int64_t* sizes, const Settings* settings, int threads) {
  std::vector<Factors> factors;
  int64_t total = 0;
  for (int i = 0; i < count; ++i) factors.emplace_back(*settings, *steps[i] += 1), total += sizes[i];
  const int pieces = total > kMany ? threads : 1;
  const bool reversed = count > 0 && int64_t(*steps[0]) % 2 == 0;
#pragma omp parallel for schedule(static) num_threads(pieces) if (pieces > 1)
  for (int piece = 0; piece < pieces; ++piece)
    for (int n = 0; n < count; ++n) {
      const int i = reversed ? count - 1 - n : n;
      const Moments moments{values[i], first[i], second[i], gradients[i]};
      const int64_t begin = border(sizes[i], piece, pieces), end = border(sizes[i], piece + 1, pieces);
      const int64_t chunks = (end - begin + kChunk - 1) / kChunk;
      for (int64_t m = 0; m < chunks; ++m) {
        const int64_t from = begin + (reversed ? chunks - 1 - m : m) * kChunk, to = std::min(from + kChunk, end);
        if (settings->weight_decay == 0) update<kNone>(moments, factors[i], from, to);
        else if (settings->decoupled) update<kDecoupled>(moments, factors[i], from, to);
        else update<kInGradient>(moments, factors[i], from, to);
      }
    }
}

}  // extern "C"
