// What stands between the products: norms, activations, rotations, each a pass over rows of 16-lane registers.
#pragma once

#include <cmath>

#include "../../../native/functions.h"
#include "products.h"

namespace {

inline Vector all(float value) { return _mm512_set1_ps(value); }

// ---- activations: `value` of x, and `slope` there -------------------------------------------------------------

struct SquaredRelu {
  static Vector value(Vector x) {
    const Vector positive = _mm512_max_ps(_mm512_setzero_ps(), x);
    return _mm512_mul_ps(positive, positive);
  }
  static Vector slope(Vector x) { return _mm512_mul_ps(all(2.0f), _mm512_max_ps(_mm512_setzero_ps(), x)); }
};

struct TanhGelu {
  static constexpr float kScale = 0.7978845608f, kCubic = 0.044715f;
  static Vector half_plus_tanh(Vector x, Vector square) {  // (1 + tanh(u)) / 2 = 1 - 1 / (exp(2 u) + 1)
    const Vector u = _mm512_mul_ps(_mm512_mul_ps(x, all(2 * kScale)), _mm512_fmadd_ps(square, all(kCubic), all(1.0f)));
    return _mm512_sub_ps(all(1.0f), _mm512_div_ps(all(1.0f), _mm512_add_ps(exponential(u), all(1.0f))));
  }
  static Vector value(Vector x) { return _mm512_mul_ps(x, half_plus_tanh(x, _mm512_mul_ps(x, x))); }
  static Vector slope(Vector x) {
    const Vector square = _mm512_mul_ps(x, x), s = half_plus_tanh(x, square);
    const Vector inner = _mm512_mul_ps(all(2 * kScale), _mm512_fmadd_ps(square, all(3 * kCubic), all(1.0f)));
    const Vector bell = _mm512_fnmadd_ps(s, s, s);  // s (1 - s)
    return _mm512_fmadd_ps(_mm512_mul_ps(x, inner), bell, s);
  }
};

struct ErfGelu {
  // The normal distribution function by Abramowitz and Stegun 7.1.26, to 1e-7; `bell` = exp(-x^2 / 2).
  static Vector normal(Vector x, Vector& bell) {
    const Vector z = _mm512_mul_ps(_mm512_abs_ps(x), all(0.7071067812f));
    bell = exponential(_mm512_mul_ps(_mm512_mul_ps(x, x), all(-0.5f)));
    const Vector t = _mm512_div_ps(all(1.0f), _mm512_fmadd_ps(z, all(0.3275911f), all(1.0f)));
    Vector p = all(1.061405429f);
    for (float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = _mm512_fmadd_ps(p, t, all(c));
    const Vector tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(p, t), bell), all(0.5f));
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_mov_ps(_mm512_sub_ps(all(1.0f), tail), negative, tail);
  }
  static Vector value(Vector x) {
    Vector bell;
    return _mm512_mul_ps(x, normal(x, bell));
  }
  static Vector slope(Vector x) {
    Vector bell;
    const Vector phi = normal(x, bell);
    return _mm512_fmadd_ps(_mm512_mul_ps(x, bell), all(0.3989422804f), phi);
  }
};

template <class Activation>
void activate(const float* x, size_t count, float* y) {
  for (size_t i = 0; i < count; i += kLanes) _mm512_storeu_ps(y + i, Activation::value(_mm512_loadu_ps(x + i)));
}

template <class Activation>
void activate_backward(const float* x, size_t count, float* gradient) {
  for (size_t i = 0; i < count; i += kLanes)
    _mm512_storeu_ps(gradient + i, _mm512_mul_ps(_mm512_loadu_ps(gradient + i), Activation::slope(_mm512_loadu_ps(x + i))));
}

// ---- norms ----------------------------------------------------------------------------------------------------

struct Moments {
  float mean, rstd;
};

inline Moments moments(const float* x, int width, float epsilon) {
  Vector sum = _mm512_setzero_ps(), square = _mm512_setzero_ps();
  for (int c = 0; c < width; c += kLanes) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + c));
  const float mean = _mm512_reduce_add_ps(sum) / width;
  for (int c = 0; c < width; c += kLanes) {
    const Vector d = _mm512_sub_ps(_mm512_loadu_ps(x + c), all(mean));
    square = _mm512_fmadd_ps(d, d, square);
  }
  return {mean, 1 / std::sqrt(_mm512_reduce_add_ps(square) / width + epsilon)};
}

inline Vector normal(const float* x, Moments m) {
  return _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x), all(m.mean)), all(m.rstd));
}

inline void layer_norm(const float* x, int rows, int width, const float* gain, const float* bias, float epsilon,
                       float* y, Moments* kept) {
  for (int row = 0; row < rows; ++row, x += width, y += width) {
    const Moments m = kept[row] = moments(x, width, epsilon);
    for (int c = 0; c < width; c += kLanes) {
      const Vector shift = bias ? _mm512_loadu_ps(bias + c) : _mm512_setzero_ps();
      _mm512_storeu_ps(y + c, _mm512_fmadd_ps(normal(x + c, m), _mm512_loadu_ps(gain + c), shift));
    }
  }
}

inline void add_to(float* target, Vector value) { _mm512_storeu_ps(target, _mm512_add_ps(_mm512_loadu_ps(target), value)); }

// to_x += the gradient through the norm; to_gain and to_bias (or null) collect theirs.
inline void layer_norm_backward(const float* x, const float* to_y, int rows, int width, const float* gain,
                                const Moments* kept, float* to_x, float* to_gain, float* to_bias) {
  for (int row = 0; row < rows; ++row, x += width, to_y += width, to_x += width) {
    const Moments m = kept[row];
    Vector plain = _mm512_setzero_ps(), along = _mm512_setzero_ps();
    for (int c = 0; c < width; c += kLanes) {
      const Vector gradient = _mm512_loadu_ps(to_y + c), unit = normal(x + c, m);
      const Vector scaled = _mm512_mul_ps(gradient, _mm512_loadu_ps(gain + c));
      plain = _mm512_add_ps(plain, scaled);
      along = _mm512_fmadd_ps(scaled, unit, along);
      add_to(to_gain + c, _mm512_mul_ps(gradient, unit));
      if (to_bias) add_to(to_bias + c, gradient);
    }
    const Vector mean_plain = all(_mm512_reduce_add_ps(plain) / width), mean_along = all(_mm512_reduce_add_ps(along) / width);
    for (int c = 0; c < width; c += kLanes) {
      const Vector scaled = _mm512_mul_ps(_mm512_loadu_ps(to_y + c), _mm512_loadu_ps(gain + c));
      const Vector rest = _mm512_fnmadd_ps(normal(x + c, m), mean_along, _mm512_sub_ps(scaled, mean_plain));
      add_to(to_x + c, _mm512_mul_ps(rest, all(m.rstd)));
    }
  }
}

// ---- queries and keys: normed to unit variance, then turned by their position ---------------------------------

// Neighbouring pairs (a, b) become (a cos - b sin, b cos + a sin); `sine` is stored with its signs, -sin and +sin.
inline Vector turned(Vector x, Vector cosine, Vector sine) {
  return _mm512_fmadd_ps(x, cosine, _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), sine));
}

inline void norm_head(float* x, int width, float epsilon, float* rstd) {
  const Moments m = moments(x, width, epsilon);
  *rstd = m.rstd;
  for (int c = 0; c < width; c += kLanes) _mm512_storeu_ps(x + c, normal(x + c, m));
}

inline void norm_head_backward(const float* unit, float* gradient, int width, float rstd) {
  Vector plain = _mm512_setzero_ps(), along = _mm512_setzero_ps();
  for (int c = 0; c < width; c += kLanes) {
    const Vector g = _mm512_loadu_ps(gradient + c);
    plain = _mm512_add_ps(plain, g);
    along = _mm512_fmadd_ps(g, _mm512_loadu_ps(unit + c), along);
  }
  const Vector mean_plain = all(_mm512_reduce_add_ps(plain) / width), mean_along = all(_mm512_reduce_add_ps(along) / width);
  for (int c = 0; c < width; c += kLanes) {
    const Vector rest = _mm512_sub_ps(_mm512_loadu_ps(gradient + c), mean_plain);
    _mm512_storeu_ps(gradient + c, _mm512_mul_ps(_mm512_fnmadd_ps(_mm512_loadu_ps(unit + c), mean_along, rest), all(rstd)));
  }
}

inline void turn(float* x, int width, const float* cosine, const float* sine) {
  for (int c = 0; c < width; c += kLanes)
    _mm512_storeu_ps(x + c, turned(_mm512_loadu_ps(x + c), _mm512_loadu_ps(cosine + c), _mm512_loadu_ps(sine + c)));
}

inline void turn_back(float* x, int width, const float* cosine, const float* sine) {
  for (int c = 0; c < width; c += kLanes)
    _mm512_storeu_ps(x + c, turned(_mm512_loadu_ps(x + c), _mm512_loadu_ps(cosine + c),
                                   _mm512_sub_ps(_mm512_setzero_ps(), _mm512_loadu_ps(sine + c))));
}

// ---- sums over rows, and rows of a bias -----------------------------------------------------------------------

inline void add_column_sums(const float* x, int rows, int width, float* sums) {
  for (int c = 0; c < width; c += kLanes) {
    Vector sum = _mm512_loadu_ps(sums + c);
    for (int row = 0; row < rows; ++row) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + size_t(row) * width + c));
    _mm512_storeu_ps(sums + c, sum);
  }
}

// y = residual (or nothing) + bias (or nothing) in every row: what a product is then added to
inline void begin_rows(const float* residual, const float* bias, int rows, int width, float* y) {
  for (int row = 0; row < rows; ++row)
    for (int c = 0; c < width; c += kLanes) {
      const Vector first = residual ? _mm512_loadu_ps(residual + size_t(row) * width + c) : _mm512_setzero_ps();
      const Vector second = bias ? _mm512_loadu_ps(bias + c) : _mm512_setzero_ps();
      _mm512_storeu_ps(y + size_t(row) * width + c, _mm512_add_ps(first, second));
    }
}

}  // namespace
