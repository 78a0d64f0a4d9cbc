// A stack of dense layers, forward and backward, for CPUs with AVX-512; its end is a linear layer, an activation, or
// the Bernoulli log-likelihood of binary (or gray) pixels, which then is never written out pixel by pixel.
//
// Rows are draws: `k` rows in turn belong to one image. A tile of the product is 12 rows x 32 outputs, in tile registers
// 32 x 32; bias, activation and likelihood are computed on it before anything else is stored. The float32 and bfloat16
// forms are one template: the unit of arithmetic is 32 bits, one float, or two bfloat16 for vdpbf16ps and tdpbf16ps,
// which multiply pairs and sum in float32.
// Weights stay float32 outside; they are packed for every pass, and gradients come back as float32.

#include "autoencoder.h"
#include "stack.h"

extern "C" {

// the fastest way to multiply in bfloat16 here, or kSingle: none
int dense_bfloat16_format() {
#ifdef __AMX_BF16__
  if (tiles_allowed()) return kTiledHalf;
#endif
#ifdef __AVX512BF16__
  return kHalf;
#endif
  return kSingle;
}

void* dense_plan(int format, int n_sizes, const int* sizes, int activation, int last_activation, int bernoulli) {
  auto* plan = new Plan{Format(format), bool(bernoulli), activation, last_activation};
  in_format(*plan, [&]<class T>(T) { lay_out<T>(*plan, {sizes, sizes + n_sizes}); });
  return plan;
}
void dense_free(void* plan) { delete static_cast<Plan*>(plan); }
int64_t dense_record_bytes(const void* plan, int rows) {
  return cell_record_bytes(*static_cast<const Plan*>(plan), rows);
}

// records: null where there will be no backward pass
void dense_forward(const void* plan_, const Call* call, const float* const* parameters, char* records,
                   float* result) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
  in_format(plan, [&]<class T>(T) { forward<T>(plan, *call, parameters, records, result); });
}

// gradients (2 for each layer) and to_input (or null) are overwritten
void dense_backward(const void* plan_, const Call* call, const float* const* parameters, char* records,
                    const float* result, const float* to_result, float* const* gradients, float* to_input) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
  in_format(plan, [&]<class T>(T) {
    backward<T>(plan, *call, parameters, records, result, to_result, gradients, to_input);
  });
}

// log p(x, z) / q(z|x) of k draws from each posterior, (cells, images, k), for a plan that ends in the likelihood
void dense_log_weights(const void* plan_, const Call* call, const Posteriors* q, const float* const* parameters,
                       float* result) {
  const Plan& plan = *static_cast<const Plan*>(plan_);
  in_format(plan, [&]<class T>(T) { log_weights<T>(plan, *call, *q, parameters, result); });
}

// the noise of those draws, (draws, latents)
void dense_normals(uint64_t seed, int64_t draws, int latents, float* found) {
  const Posteriors standard{nullptr, nullptr, latents, 1, seed};
  std::vector<float> zeros(latents, 0.f), ones(latents, 1.f), row(latents + kLanes);
  for (int64_t i = 0; i < draws; ++i) {
    draw_row<Single>(standard, zeros.data(), ones.data(), i, row.data());
    std::copy_n(row.data(), latents, found + i * latents);
  }
}

int64_t autoencoder_bytes(const Network* net, const Batch* batch) {
  return batch->cells * workspace_of_cell(*net, *batch);
}

// all arrays of `found` are written
void autoencoder_forward(const Network* net, const Batch* batch, const float* const* parameters, char* workspace,
                         const Densities<float>* found) {
  const size_t own = workspace_of_cell(*net, *batch);
  in_format(*net->encoder, [&]<class T>(T) {
    for_cells(*batch, false, [&](int first, int count, int threads) {
      encode_and_decode<T>(*net, cells_of(*net, *batch, first, count, threads),
                           cells_of(*net, parameters, first).data(), workspace + first * own,
                           cells_of(*net, *batch, *found, first));
    });
  });
}

// once after each forward pass, with its workspace; `gradients` (2 for each layer) are overwritten, but those of the
// decoder are left alone where neither the likelihood nor the weights have one: they may be null
void autoencoder_backward(const Network* net, const Batch* batch, const float* const* parameters, char* workspace,
                          const float* z, const Densities<const float>* to, float* const* gradients) {
  const size_t own = workspace_of_cell(*net, *batch), latents = size_t(batch->images) * batch->k * net->latents();
  in_format(*net->encoder, [&]<class T>(T) {
    for_cells(*batch, true, [&](int first, int count, int threads) {
      back_to_parameters<T>(*net, cells_of(*net, *batch, first, count, threads),
                            cells_of(*net, parameters, first).data(), workspace + first * own, z + first * latents,
                            cells_of(*net, *batch, *to, first), cells_of(*net, gradients, first).data());
    });
  });
}

}  // extern "C"
