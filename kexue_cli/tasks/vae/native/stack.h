// Stacks of dense layers, all cells and all rows, by several threads.
#pragma once

#include <algorithm>
#include <vector>

#include "draws.h"
#include "pass.h"

namespace {

struct Call {  // arrays of all cells; an input or images that all cells share are there once
  int cells, rows, threads;
  const float* input;
  bool shared_input;
  const float* x;
  bool shared_x;
  int images, k;
};

// pack(cell, packed) for all cells; what is packed is there until this thread's next call
template <class Pack>
const char* pack_cells(const Plan& plan, const Call& call, const Pack& pack) {
  char* packed = scratch<char>(6, call.cells * plan.packed_bytes);
#pragma omp parallel for schedule(static) num_threads(call.threads) if (call.threads > 1 && call.cells > 1)
  for (int cell = 0; cell < call.cells; ++cell) pack(cell, packed + cell * plan.packed_bytes);
  return packed;
}

// records: null where there will be no backward pass; fill(cell, first, count, to): the input of rows
template <class T, class Fill>
void forward_of(const Plan& plan, const Call& call, const float* const* parameters, char* records, float* result,
                const Fill& fill) {
  const char* packed =
      pack_cells(plan, call, [&](int cell, char* to) { pack_forward<T>(plan, parameters, cell, to); });
  const Shares shares(plan, call.rows);
  const int pixels = plan.layers.back().out, outputs = plan.bernoulli ? 1 : pixels;
  const size_t record = plan.row_bytes * shares.block, cell_records = cell_record_bytes(plan, call.rows);
#pragma omp parallel for schedule(static) num_threads(call.threads) if (call.threads > 1 && call.cells * shares.count > 1)
  for (int work = 0; work < call.cells * shares.count; ++work) {
    const typename T::Scope scope;
    const int cell = work / shares.count, begin = shares.first(work % shares.count);
    const int end = begin + shares.size(work % shares.count);
    const Pass<T> pass{plan, packed + cell * plan.packed_bytes};
    const float* x = call.x ? call.x + (call.shared_x ? 0 : size_t(cell) * call.images * pixels) : nullptr;
    char* own = records ? nullptr : scratch<char>(2, record);
    for (int first = begin; first < end; first += shares.block) {
      char* record_of_block = records ? records + cell * cell_records + first * plan.row_bytes : own;
      const auto places = pass.places(record_of_block, shares.block);
      const int count = std::min(shares.block, end - first);
      fill(cell, first, count, places[0]);
      pass.forward(count, places, records != nullptr, {x, first, call.k},
                   result + (size_t(cell) * call.rows + first) * outputs);
    }
  }
}

template <class T>
void forward(const Plan& plan, const Call& call, const float* const* parameters, char* records, float* result) {
  const int inputs = plan.layers[0].in;
  forward_of<T>(plan, call, parameters, records, result, [&](int cell, int first, int count, typename T::Element* to) {
    const size_t row = first + (call.shared_input ? 0 : size_t(cell) * call.rows);
    round_rows<T>(call.input + row * inputs, inputs, count, to);
  });
}

// log p(x, z) / q(z|x) of draws from q, in the order of the rows
template <class T>
void log_weights(const Plan& plan, const Call& call, const Posteriors& q, const float* const* parameters,
                 float* result) {
  std::vector<float> log_ratios(size_t(call.cells) * call.rows);
  forward_of<T>(plan, call, parameters, nullptr, result, [&](int cell, int first, int count, typename T::Element* to) {
    const size_t row = size_t(cell) * call.rows + first;
    draw_rows<T>(q, row, count, to, log_ratios.data() + row);
  });
  add(result, log_ratios.data(), log_ratios.size());
}

template <class T>
void backward_share(const Plan& plan, const Call& call, int cell, int share, const char* packed, char* records,
                    const float* result, const float* to_result, float* const* gradients, float* to_input) {
  const Pass<T> pass{plan, packed};
  const Shares shares(plan, call.rows);
  const Layer& last = plan.layers.back();
  const int inputs = plan.layers[0].in;
  const int begin = shares.first(share), end = begin + shares.size(share);
  for (int first = begin; first < end; first += shares.block) {
    const int count = std::min(shares.block, end - first);
    const size_t row = size_t(cell) * call.rows + first;
    const auto places = pass.places(records + first * plan.row_bytes, shares.block);
    auto* factor = places.back();
    if (plan.bernoulli) {
      scale_rows<T>(factor, width_of<T>(last.out), count, to_result + row);
    } else {
      factor = scratch<typename T::Element>(1, size_t(T::kBlock) * plan.widest);
      round_gradient<T>(to_result + row * last.out, result + row * last.out, plan.last_activation, last.out, count,
                        factor);
    }
    pass.backward(count, places, factor, gradients, first == begin, to_input ? to_input + row * inputs : nullptr);
  }
}

template <class T>
void backward(const Plan& plan, const Call& call, const float* const* parameters, char* records, const float* result,
              const float* to_result, float* const* gradients, float* to_input) {
  const char* packed = pack_cells(
      plan, call, [&](int cell, char* to) { pack_backward<T>(plan, parameters, cell, to_input ? 0 : 1, to); });
  const Shares shares(plan, call.rows);
  const size_t cell_records = cell_record_bytes(plan, call.rows), size = plan.gradient_floats;
  thread_local std::vector<float> sums;  // of each share but the first, which sums in place
  sums.resize(std::max(sums.size(), size * call.cells * (shares.count - 1)));
  float* const own = sums.data();
  const auto places = [&](int cell, int share) {
    std::vector<float*> found;
    float* at = own + size * (size_t(cell) * (shares.count - 1) + share - 1);
    for (size_t l = 0; l < plan.layers.size(); ++l) {
      const Layer& layer = plan.layers[l];
      for (int part = 0; part < 2; ++part) {
        const size_t floats = part ? layer.out : size_t(layer.in) * layer.out;
        found.push_back(share ? at : gradients[2 * l + part] + cell * floats);
        at += floats;
      }
    }
    return found;
  };
#pragma omp parallel for schedule(static) num_threads(call.threads) if (call.threads > 1 && call.cells * shares.count > 1)
  for (int work = 0; work < call.cells * shares.count; ++work) {
    const typename T::Scope scope;
    const int cell = work / shares.count, share = work % shares.count;
    backward_share<T>(plan, call, cell, share, packed + cell * plan.packed_bytes, records + cell * cell_records, result,
                      to_result, places(cell, share).data(), to_input);
  }
  const int parts = call.cells * (shares.count - 1) > 0 ? call.threads : 0;  // of each array of sums
#pragma omp parallel for schedule(static) num_threads(call.threads) if (call.threads > 1 && parts > 0)
  for (int part = 0; part < parts; ++part)
    for (int cell = 0; cell < call.cells; ++cell)
      for (int share = 1; share < shares.count; ++share) {
        const auto total = places(cell, 0), more = places(cell, share);
        for (size_t i = 0; i < total.size(); ++i) {
          const Layer& layer = plan.layers[i / 2];
          const size_t count = i % 2 ? layer.out : size_t(layer.in) * layer.out;
          const size_t begin = count * part / parts, end = count * (part + 1) / parts;
          add(total[i] + begin, more[i] + begin, end - begin);
        }
      }
}

template <class Work>
void in_format(const Plan& plan, const Work& work) {
#ifdef __AMX_BF16__
  if (plan.format == kTiledHalf) return work(TiledHalf{});
#endif
#ifdef __AVX512BF16__
  if (plan.format == kHalf) return work(Half{});
#endif
  work(Single{});
}

}  // namespace
