// Encoder, draws and decoder of a dense auto-encoder with normal latents and binary pixels, one call each way. With a
// batch of 20 the bookkeeping around fifty small operations costs more than their arithmetic.
#pragma once

#include <algorithm>
#include <vector>

#include "stack.h"

namespace {

constexpr float kLogTwoPi = 1.8378770664f;

struct Network {
  const Plan *encoder, *head, *decoder;  // head: one float32 layer, the sizes of mean and log_var
  float factor, low, high;               // log_var: factor times the second head, cut to [low, high]

  int latents() const { return head->layers.back().out; }
  int features() const { return head->layers.front().in; }
};

struct Batch {  // x (cells or 1, images, pixels), noise (cells, images, k, latents)
  int cells, images, k, threads;
  const float* x;
  bool shared_x;
  const float* noise;

  size_t rows() const { return size_t(cells) * images; }
};

// (cells, images, k); z (.., k, latents); mean and log_var (cells, images, latents). Of gradients any may be null.
template <class Number>
struct Densities {
  Number *likelihood, *prior, *posterior, *weights, *z, *mean, *log_var;
};

struct Workspace {  // what `backward` needs of `forward`, one after the other
  size_t bytes = 0;
  char *encoder_records, *decoder_records, *head_records[2];
  float *features, *raw, *sigma;  // of each image; raw: log_var before it is cut
  float *to_z, *to_draws, *to_heads[2], *to_features[2];  // gradients, to_draws at each draw's log-likelihood

  Workspace(const Network& net, const Batch& batch, char* base) {
    const auto block = [&](size_t size) { return base + take(bytes, size); };
    const auto floats = [&](size_t count) { return reinterpret_cast<float*>(block(count * sizeof(float))); };
    const auto records = [&](const Plan& plan, int rows) { return block(batch.cells * cell_record_bytes(plan, rows)); };
    encoder_records = records(*net.encoder, batch.images);
    decoder_records = records(*net.decoder, batch.images * batch.k);
    for (char*& place : head_records) place = records(*net.head, batch.images);
    const size_t rows = batch.rows(), numbers = rows * net.latents();
    features = floats(rows * net.features()), raw = floats(numbers), sigma = floats(numbers);
    to_z = floats(numbers * batch.k), to_draws = floats(rows * batch.k);
    for (int h = 0; h < 2; ++h) to_heads[h] = floats(numbers), to_features[h] = floats(rows * net.features());
  }
};

inline Call encoder_call(const Batch& b) {
  return {b.cells, b.images, b.threads, b.x, b.shared_x, nullptr, false, 0, 1};
}

inline Call head_call(const Batch& b, const float* features) {
  return {b.cells, b.images, b.threads, features, false, nullptr, false, 0, 1};
}

inline Call decoder_call(const Batch& b, const float* z) {
  return {b.cells, b.images * b.k, b.threads, z, false, b.x, b.shared_x, b.images, b.k};
}

// work(image) for all images of all cells, by several threads where that pays
template <class Work>
void for_images(const Network& net, const Batch& batch, const Work& work) {
  constexpr int kMany = 1 << 15;  // latents: some microseconds
  const int rows = batch.cells * batch.images, numbers = rows * batch.k * net.latents();
#pragma omp parallel num_threads(batch.threads) if (batch.threads > 1 && numbers > kMany)
  {
    const TinyAsZero scope;
#pragma omp for
    for (int image = 0; image < rows; ++image) work(size_t(image));
  }
}

// work(first, mask) for 16 of the latents at a time
template <class Work>
void in_lanes(int latents, const Work& work) {
  for (int first = 0; first < latents; first += kLanes) work(first, mask_of(latents - first));
}

inline __m512 added_square(__m512 sum, __m512 x) { return _mm512_fmadd_ps(x, x, sum); }

// sigma and log_var of an image from the second head's results; the sum of log_var
inline float deviations(const Network& net, float* raw, float* sigma, float* log_var) {
  __m512 sum = _mm512_setzero_ps();
  in_lanes(net.latents(), [&](int at, __mmask16 mask) {
    const __m512 whole = _mm512_mul_ps(_mm512_set1_ps(net.factor), _mm512_maskz_loadu_ps(mask, raw + at));
    // the order of both lets a NaN through
    const __m512 cut = _mm512_min_ps(_mm512_set1_ps(net.high), _mm512_max_ps(_mm512_set1_ps(net.low), whole));
    sum = _mm512_mask_add_ps(sum, mask, sum, cut);
    _mm512_mask_storeu_ps(raw + at, mask, whole);
    _mm512_mask_storeu_ps(log_var + at, mask, cut);
    _mm512_mask_storeu_ps(sigma + at, mask, exponential(_mm512_mul_ps(_mm512_set1_ps(0.5f), cut)));
  });
  return _mm512_reduce_add_ps(sum);
}

// z = mean + sigma noise of one draw; the squared lengths of both
inline std::pair<float, float> drawn(int latents, const float* mean, const float* sigma, const float* noise, float* z) {
  __m512 of_noise = _mm512_setzero_ps(), of_z = of_noise;
  in_lanes(latents, [&](int at, __mmask16 mask) {
    const __m512 e = _mm512_maskz_loadu_ps(mask, noise + at);
    const __m512 centre = _mm512_maskz_loadu_ps(mask, mean + at);
    const __m512 value = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, sigma + at), e, centre);
    of_noise = added_square(of_noise, e), of_z = added_square(of_z, value);
    _mm512_mask_storeu_ps(z + at, mask, value);
  });
  return {_mm512_reduce_add_ps(of_noise), _mm512_reduce_add_ps(of_z)};
}

// all draws with their densities under q and the prior, from `mean` and the second head's results in `raw`
inline void draw(const Network& net, const Batch& batch, const Workspace& w, const Densities<float>& found) {
  const int latents = net.latents();
  const float constant = latents * kLogTwoPi;
  for_images(net, batch, [&](size_t image) {
    const size_t at = image * latents;
    const float own = deviations(net, w.raw + at, w.sigma + at, found.log_var + at);
    for (size_t row = image * batch.k; row < (image + 1) * batch.k; ++row) {
      const size_t here = row * latents;
      const auto [of_noise, of_z] =
          drawn(latents, found.mean + at, w.sigma + at, batch.noise + here, found.z + here);
      found.posterior[row] = -0.5f * (of_noise + own + constant);
      found.prior[row] = -0.5f * (of_z + constant);
    }
  });
}

// ---- cells

// work(first, count, threads) for groups of cells. Where there are enough, each thread takes whole cells, the same ones
// every time, so that their weights, gradients and moments stay in its core's cache; all share what is left over.
// The backward pass begins with the cells that the forward pass ended with: they are still there.
template <class Work>
void for_cells(const Batch& batch, bool backwards, const Work& work) {
  const int own = batch.cells / batch.threads, whole = own * batch.threads;
#pragma omp parallel for schedule(static) num_threads(batch.threads) if (batch.threads > 1 && own > 0)
  for (int thread = 0; thread < batch.threads; ++thread)
    for (int i = 0; i < own; ++i) work(thread * own + (backwards ? own - 1 - i : i), 1, 1);
  if (whole < batch.cells) work(whole, batch.cells - whole, batch.threads);
}

inline Batch cells_of(const Network& net, const Batch& b, int first, int count, int threads) {
  const size_t pixels = net.encoder->layers.front().in, images = size_t(first) * b.images;
  return {count, b.images, b.k, threads, b.x + (b.shared_x ? 0 : images * pixels), b.shared_x,
          b.noise + images * b.k * net.latents()};
}

template <class Number>
Densities<Number> cells_of(const Network& net, const Batch& b, Densities<Number> found, int first) {
  const size_t images = size_t(first) * b.images, draws = images * b.k, latents = net.latents();
  const auto skip = [](Number*& numbers, size_t count) { numbers = numbers ? numbers + count : nullptr; };
  for (Number** numbers : {&found.likelihood, &found.prior, &found.posterior, &found.weights}) skip(*numbers, draws);
  skip(found.z, draws * latents), skip(found.mean, images * latents), skip(found.log_var, images * latents);
  return found;
}

// weight and bias of each layer from cell `first` on; null for those that are not there
template <class Number>
std::vector<Number*> cells_of(const Network& net, Number* const* parameters, int first) {
  std::vector<Number*> found;
  for (const Plan* plan : {net.encoder, net.head, net.head, net.decoder})
    for (const Layer& layer : plan->layers)
      for (const size_t count : {size_t(layer.in) * layer.out, size_t(layer.out)}) {
        found.push_back(*parameters ? *parameters + first * count : nullptr);
        ++parameters;
      }
  return found;
}

inline size_t workspace_of_cell(const Network& net, Batch batch) {
  batch.cells = 1;
  return Workspace(net, batch, nullptr).bytes;
}

// parameters: of the encoder, of the head of the mean, of that of log_var, of the decoder
template <class T>
void encode_and_decode(const Network& net, const Batch& batch, const float* const* parameters, char* base,
                       const Densities<float>& found) {
  const TinyAsZero scope;
  const Workspace w(net, batch, base);
  const float* const* heads = parameters + 2 * net.encoder->layers.size();
  forward<T>(*net.encoder, encoder_call(batch), parameters, w.encoder_records, w.features);
  for (int h = 0; h < 2; ++h)
    forward<Single>(*net.head, head_call(batch, w.features), heads + 2 * h, w.head_records[h],
                    h ? w.raw : found.mean);
  draw(net, batch, w, found);
  forward<T>(*net.decoder, decoder_call(batch, found.z), heads + 4, w.decoder_records, found.likelihood);
  for (size_t row = 0; row < batch.rows() * batch.k; ++row)
    found.weights[row] = found.likelihood[row] + found.prior[row] - found.posterior[row];
}

// ---- back

using Gradients = Densities<const float>;

inline float at_row(const float* numbers, size_t row) { return numbers ? numbers[row] : 0.f; }

inline __m512 at_lanes(const float* numbers, size_t at, __mmask16 mask) {
  return numbers ? _mm512_maskz_loadu_ps(mask, numbers + at) : _mm512_setzero_ps();
}

// gradients at both heads' results of one image, from those at its draws (w.to_z, by way of the decoder) and densities
inline void image_gradient(const Network& net, const Batch& batch, const Workspace& w, const float* z,
                           const Gradients& to, size_t image) {
  const int latents = net.latents();
  const size_t first_row = image * batch.k, end_row = first_row + batch.k;
  float to_posterior = 0;
  for (size_t row = first_row; row < end_row; ++row)
    to_posterior += at_row(to.posterior, row) - at_row(to.weights, row);
  in_lanes(latents, [&](int lane, __mmask16 mask) {
    const size_t at = image * latents + lane;
    __m512 mean = _mm512_setzero_ps(), half = mean;
    for (size_t row = first_row; row < end_row; ++row) {
      const size_t here = row * latents + lane;
      const __m512 to_prior = _mm512_set1_ps(at_row(to.prior, row) + at_row(to.weights, row));
      __m512 through = _mm512_maskz_loadu_ps(mask, w.to_z + here);
      through = _mm512_fnmadd_ps(to_prior, _mm512_maskz_loadu_ps(mask, z + here), through);
      through = _mm512_add_ps(through, at_lanes(to.z, here, mask));
      mean = _mm512_add_ps(mean, through);
      half = _mm512_fmadd_ps(through, _mm512_maskz_loadu_ps(mask, batch.noise + here), half);
    }
    const __m512 sigma = _mm512_maskz_loadu_ps(mask, w.sigma + at), raw = _mm512_maskz_loadu_ps(mask, w.raw + at);
    half = _mm512_fmsub_ps(half, sigma, _mm512_set1_ps(to_posterior));
    const __m512 log_var = _mm512_fmadd_ps(half, _mm512_set1_ps(0.5f), at_lanes(to.log_var, at, mask));
    const __mmask16 within = _mm512_cmp_ps_mask(raw, _mm512_set1_ps(net.low), _CMP_GE_OQ) &
                             _mm512_cmp_ps_mask(raw, _mm512_set1_ps(net.high), _CMP_LE_OQ);
    _mm512_mask_storeu_ps(w.to_heads[0] + at, mask, _mm512_add_ps(mean, at_lanes(to.mean, at, mask)));
    _mm512_mask_storeu_ps(w.to_heads[1] + at, mask, _mm512_maskz_mul_ps(within, log_var, _mm512_set1_ps(net.factor)));
  });
}

// gradients of all parameters, in their order; those of the decoder only where its likelihood has one
template <class T>
void back_to_parameters(const Network& net, const Batch& batch, const float* const* parameters, char* base,
                        const float* z, const Gradients& to, float* const* gradients) {
  const TinyAsZero scope;
  const Workspace w(net, batch, base);
  const size_t rows = batch.rows(), draws = rows * batch.k;
  const size_t of_encoder = 2 * net.encoder->layers.size();
  const float* const* head_parameters = parameters + of_encoder;
  float* const* heads = gradients + of_encoder;
  if (to.likelihood || to.weights) {
    for (size_t row = 0; row < draws; ++row) w.to_draws[row] = at_row(to.likelihood, row) + at_row(to.weights, row);
    backward<T>(*net.decoder, decoder_call(batch, z), head_parameters + 4, w.decoder_records, nullptr, w.to_draws,
                heads + 4, w.to_z);
  } else {
    std::fill_n(w.to_z, draws * net.latents(), 0.f);
  }
  for_images(net, batch, [&](size_t image) { image_gradient(net, batch, w, z, to, image); });
  for (int h = 0; h < 2; ++h)
    backward<Single>(*net.head, head_call(batch, w.features), head_parameters + 2 * h, w.head_records[h], w.raw,
                     w.to_heads[h], heads + 2 * h, w.to_features[h]);
  add(w.to_features[0], w.to_features[1], rows * net.features());
  backward<T>(*net.encoder, encoder_call(batch), parameters, w.encoder_records, w.features, w.to_features[0], gradients,
              nullptr);
}

}  // namespace
