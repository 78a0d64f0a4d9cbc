// Where everything lies: the record of a sample (inputs of all convolutions, signs of all ReLUs and pools), the packed
// weights, the gradients.
#pragma once

#include <vector>

#include "tile_products.h"

namespace {

// ---- what is stored where ------------------------------------------------------------------------------------

struct Conv {
  int in, out, taps, dilation;                      // `in` counts the two parts of a bfloat16 flux as two channels
  size_t forward, transposed, bias;                 // byte offsets in the packed weights; biases by tile
  size_t weight_gradient, bias_gradient;            // offsets in the gradient buffer, in floats
  size_t input, bits;                               // byte offsets in a sample's record: its input rows, its ReLU bits
};

struct Block {
  int length, in, filters;
  bool pool;
  std::vector<Conv> convs;
  bool project;
  Conv skip;
  size_t input, pool_bits;
};

struct Plan {
  bool bfloat16;
  int in_channels, parts, pad, last_length, last_filters;
  std::vector<Block> blocks;
  size_t record_bytes = 0, packed_bytes = 0, gradient_floats = 0;
};

size_t take(size_t& total, size_t bytes) {  // cache-line aligned
  const size_t offset = total;
  total += (bytes + 63) / 64 * 64;
  return offset;
}

size_t row_bytes(const Plan& plan, int length, int channels) {
  return size_t(length + 2 * plan.pad) * channels * (plan.bfloat16 ? 2 : 4);
}

int tile_width(int channels) { return channels % (2 * kLanes) ? 1 : 2; }

Conv plan_conv(Plan& plan, int in, int out, int taps, int dilation, int true_in) {
  Conv conv{in, out, taps, dilation, 0, 0, 0, 0, 0, 0, 0};
  const size_t bytes = size_t(taps) * in * out * (plan.bfloat16 ? 2 : 4);
  conv.forward = take(plan.packed_bytes, bytes);
  conv.transposed = take(plan.packed_bytes, bytes);
  conv.bias = take(plan.packed_bytes, out * sizeof(float));
  conv.weight_gradient = plan.gradient_floats;
  conv.bias_gradient = conv.weight_gradient + size_t(taps) * true_in * out;
  plan.gradient_floats = conv.bias_gradient + out;
  return conv;
}

Plan make_plan(bool bfloat16, int length, int in_channels, const std::vector<int>& filters,
               const std::vector<int>& dilations) {
  Plan plan{bfloat16, in_channels, bfloat16 ? 2 : 1, 0, 0, 0, {}};
  plan.pad = *std::max_element(dilations.begin(), dilations.end()) + 1;
  int channels = in_channels;
  for (size_t b = 0; b < filters.size(); ++b) {
    Block block{length, b ? channels : channels * plan.parts, filters[b], b + 1 < filters.size(), {}, false, {}, 0, 0};
    block.project = channels != filters[b];
    block.input = take(plan.record_bytes, row_bytes(plan, length, block.in));
    int in = block.in, true_in = channels;
    for (size_t j = 0; j < dilations.size(); ++j) {
      Conv conv = plan_conv(plan, in, 2 * filters[b], kTaps, dilations[j], true_in);
      conv.input = j ? take(plan.record_bytes, row_bytes(plan, length, in)) : block.input;
      conv.bits = take(plan.record_bytes, size_t(length) * filters[b] / 4);  // two bits for each result
      block.convs.push_back(conv);
      in = true_in = filters[b];
    }
    if (block.project) {
      block.skip = plan_conv(plan, block.in, filters[b], 1, 1, channels);
      block.skip.input = block.input;
    }
    plan.last_length = length;
    if (block.pool) length /= 2;
    block.pool_bits = take(plan.record_bytes, size_t(length) * filters[b] / 8);
    plan.blocks.push_back(block);
    channels = filters[b];
  }
  plan.last_filters = channels;
  return plan;
}

// ---- packing the weights -------------------------------------------------------------------------------------

// Which of `out` channels stands at `place` when tiles hold channel c and c + out / 2 side by side.
inline int channel_of(int out, int place) {
  const int lane = place % (2 * kLanes);
  return place / (2 * kLanes) * kLanes + lane % kLanes + lane / kLanes * (out / 2);
}

// weight: (out, in, taps) float32 -> forward [tile][tap][in][tile width] and transposed [tile][tap reversed][out][width].
// `paired` tiles follow `channel_of`.
template <class T>
void pack_conv(const Conv& conv, int true_in, const float* weight, const float* bias, bool paired,
               char* packed) {
  using Element = typename T::Element;
  auto value = [&](int o, int i, int k) {  // both parts of the flux meet the same weight
    return T::round(weight[(size_t(o) * true_in + i / (conv.in / true_in)) * conv.taps + k]);
  };
  auto write = [&](Element* target, int tiles, int width, int inner, auto&& element) {
    for (int t = 0; t < tiles; ++t)
      for (int k = 0; k < conv.taps; ++k)
        for (int i = 0; i < inner; i += T::kPack)
          for (int lane = 0; lane < width; ++lane)
            for (int part = 0; part < T::kPack; ++part) *target++ = element(t, k, i + part, lane);
  };
  const int width = paired ? 2 * kLanes : tile_width(conv.out) * kLanes;
  write(reinterpret_cast<Element*>(packed + conv.forward), conv.out / width, width, conv.in,
        [&](int t, int k, int i, int lane) {
          const int o = t * width + lane;
          return value(paired ? channel_of(conv.out, o) : o, i, k);
        });
  float* biases = reinterpret_cast<float*>(packed + conv.bias);
  for (int o = 0; o < conv.out; ++o) biases[o] = bias[paired ? channel_of(conv.out, o) : o];
  if (conv.in % kLanes) return;  // the flux needs no gradient
  const int back = tile_width(conv.in) * kLanes;
  write(reinterpret_cast<Element*>(packed + conv.transposed), conv.in / back, back, conv.out,
        [&](int t, int k, int o, int lane) { return value(o, t * back + lane, conv.taps - 1 - k); });
}

template <class T>
void pack_all(const Plan& plan, const float* const* parameters, char* packed) {
  int channels = plan.in_channels;
  for (const Block& block : plan.blocks) {
    int in = channels;
    for (const Conv& conv : block.convs) {
      pack_conv<T>(conv, in, parameters[0], parameters[1], true, packed);
      parameters += 2;
      in = block.filters;
    }
    if (block.project) {
      pack_conv<T>(block.skip, channels, parameters[0], parameters[1], false, packed);
      parameters += 2;
    }
    channels = block.filters;
  }
}

}  // namespace
