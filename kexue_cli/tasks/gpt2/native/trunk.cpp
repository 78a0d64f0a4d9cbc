// The blocks of a transformer in GPT-2's layout, forward and backward, float32, for CPUs with AVX-512.
//
// A call takes some sequences of a batch through all layers, slice after slice of at most 512 tokens, so that a slice's
// numbers stay in the second-level cache. Threads share out sequences and never wait for each other; each has its own
// gradients, which the caller adds.

#include "attention.h"
#include "head.h"

namespace {

constexpr int kSliceTokens = 512;
constexpr int kTensors = 12;  // of a layer: weight and bias (or null) of the four products and the two norms

enum Tensor { kQkv = 0, kProject = 2, kExpand = 4, kShrink = 6, kNorm1 = 8, kNorm2 = 10 };

struct Shape {  // as native_trunk.py fills it
  int32_t layers, time, width, heads, inner, activation, norms_heads;
  float epsilon, scale;
};

// What one layer keeps of the tokens of a slice, one array after the other.
struct Record {
  float *input, *normed, *qkv, *mixed, *middle, *normed_middle, *expanded, *activated, *log_sums, *head_rstd;
  Moments *moments_1, *moments_2;
};

size_t floats_per_token(const Shape& s) { return 8 * size_t(s.width) + 2 * size_t(s.inner) + 3 * size_t(s.heads) + 4; }

Record record_at(const Shape& s, float* place, size_t tokens) {
  auto take = [&](size_t per_token) {
    float* array = place;
    place += per_token * tokens;
    return array;
  };
  const size_t width = s.width, inner = s.inner, heads = s.heads;
  Record r;
  r.input = take(width), r.normed = take(width), r.qkv = take(3 * width), r.mixed = take(width);
  r.middle = take(width), r.normed_middle = take(width), r.expanded = take(inner), r.activated = take(inner);
  r.log_sums = take(heads), r.head_rstd = take(2 * heads);
  r.moments_1 = reinterpret_cast<Moments*>(take(2)), r.moments_2 = reinterpret_cast<Moments*>(take(2));
  return r;
}

struct Slice {
  const Shape& shape;
  const float *cosine, *sine;  // (time, head width), or null
  int sequences;

  int tokens() const { return sequences * shape.time; }
  int head_width() const { return shape.width / shape.heads; }

  Head head(const float* qkv, int sequence, int h) const {
    const float* first = qkv + size_t(sequence) * shape.time * 3 * shape.width + h * head_width();
    return {first, first + shape.width, first + 2 * shape.width, shape.time, head_width(), 3 * shape.width, shape.scale};
  }

  // y (tokens, out) = (y +) x (tokens, in) weight^T
  void linear(const float* x, int in, int out, const float* weight, float* y, bool add) const {
    product(tokens(), in, out, rows_of(x, in), transposed(weight, in), y, out, add);
  }

  // to_x = to_y weight; the gradients of weight and bias grow
  void linear_backward(const float* x, const float* to_y, int in, int out, const float* weight, float* to_x,
                       float* to_weight, float* to_bias) const {
    product(out, tokens(), in, transposed(to_y, out), rows_of(x, in), to_weight, in, true);
    if (to_bias) add_column_sums(to_y, tokens(), out, to_bias);
    product(tokens(), out, in, rows_of(to_y, out), rows_of(weight, in), to_x, in);
  }

  template <class Visit>
  void each_query_and_key(Visit visit) const {  // visit(offset in qkv, number of the rstd, position)
    for (int token = 0; token < tokens(); ++token)
      for (int h = 0; h < 2 * shape.heads; ++h)  // first the queries' heads, then the keys'
        visit(size_t(token) * 3 * shape.width + h * head_width(), size_t(token) * 2 * shape.heads + h, token % shape.time);
  }

  void prepare_heads(const Record& r) const {
    if (!shape.norms_heads && !cosine) return;
    each_query_and_key([&](size_t offset, size_t number, int position) {
      float* x = r.qkv + offset;
      if (shape.norms_heads) norm_head(x, head_width(), shape.epsilon, r.head_rstd + number);
      const size_t row = size_t(position) * head_width();
      if (cosine) turn(x, head_width(), cosine + row, sine + row);
    });
  }

  void prepare_heads_backward(const Record& r, float* to_qkv) const {
    if (!shape.norms_heads && !cosine) return;
    each_query_and_key([&](size_t offset, size_t number, int position) {
      float *x = r.qkv + offset, *gradient = to_qkv + offset;
      const size_t row = size_t(position) * head_width();
      if (cosine) turn_back(x, head_width(), cosine + row, sine + row);
      if (cosine) turn_back(gradient, head_width(), cosine + row, sine + row);
      if (shape.norms_heads) norm_head_backward(x, gradient, head_width(), r.head_rstd[number]);
    });
  }

  template <class Activation>
  void forward(const float* const* w, const Record& r, float* output) const {
    const int n = tokens(), width = shape.width, inner = shape.inner;
    layer_norm(r.input, n, width, w[kNorm1], w[kNorm1 + 1], shape.epsilon, r.normed, r.moments_1);
    if (w[kQkv + 1]) begin_rows(nullptr, w[kQkv + 1], n, 3 * width, r.qkv);
    linear(r.normed, width, 3 * width, w[kQkv], r.qkv, w[kQkv + 1]);
    prepare_heads(r);
    for (int s = 0; s < sequences; ++s)
      for (int h = 0; h < shape.heads; ++h)
        attend(head(r.qkv, s, h), r.mixed + size_t(s) * shape.time * width + h * head_width(), width,
               r.log_sums + (size_t(s) * shape.heads + h) * shape.time);
    begin_rows(r.input, w[kProject + 1], n, width, r.middle);
    linear(r.mixed, width, width, w[kProject], r.middle, true);
    layer_norm(r.middle, n, width, w[kNorm2], w[kNorm2 + 1], shape.epsilon, r.normed_middle, r.moments_2);
    if (w[kExpand + 1]) begin_rows(nullptr, w[kExpand + 1], n, inner, r.expanded);
    linear(r.normed_middle, width, inner, w[kExpand], r.expanded, w[kExpand + 1]);
    activate<Activation>(r.expanded, size_t(n) * inner, r.activated);
    begin_rows(r.middle, w[kShrink + 1], n, width, output);
    linear(r.activated, inner, width, w[kShrink], output, true);
  }

  // gradient: of the block's output, becomes that of its input; g: where the layer's tensors have their gradients
  template <class Activation>
  void backward(const float* const* w, const Record& r, float* gradient, float* const* g) const {
    const int n = tokens(), width = shape.width, inner = shape.inner;
    float *to_wide = scratch<3>(size_t(n) * std::max(inner, 3 * width)), *to_narrow = scratch<4>(size_t(n) * width);
    linear_backward(r.activated, gradient, inner, width, w[kShrink], to_wide, g[kShrink], g[kShrink + 1]);
    activate_backward<Activation>(r.expanded, size_t(n) * inner, to_wide);
    linear_backward(r.normed_middle, to_wide, width, inner, w[kExpand], to_narrow, g[kExpand], g[kExpand + 1]);
    layer_norm_backward(r.middle, to_narrow, n, width, w[kNorm2], r.moments_2, gradient, g[kNorm2], g[kNorm2 + 1]);
    linear_backward(r.mixed, gradient, width, width, w[kProject], to_narrow, g[kProject], g[kProject + 1]);
    std::fill_n(to_wide, size_t(n) * 3 * width, 0.0f);
    for (int s = 0; s < sequences; ++s)
      for (int h = 0; h < shape.heads; ++h) {
        const size_t place = size_t(s) * shape.time * width + h * head_width();
        float* to_query = to_wide + size_t(s) * shape.time * 3 * width + h * head_width();
        attend_backward(head(r.qkv, s, h), r.mixed + place, to_narrow + place, width,
                        r.log_sums + (size_t(s) * shape.heads + h) * shape.time, to_query, to_query + width,
                        to_query + 2 * width);
      }
    prepare_heads_backward(r, to_wide);
    linear_backward(r.normed, to_wide, width, 3 * width, w[kQkv], to_narrow, g[kQkv], g[kQkv + 1]);
    layer_norm_backward(r.input, to_narrow, n, width, w[kNorm1], r.moments_1, gradient, g[kNorm1], g[kNorm1 + 1]);
  }
};

int sequences_of_slice(const Shape& shape) { return std::max(1, kSliceTokens / shape.time); }

// work(slice, its number of tokens before it) for the slices of `sequences` sequences
template <class Work>
void each_slice(const Shape& shape, const float* rotation, int sequences, Work work) {
  const float* sine = rotation ? rotation + size_t(shape.time) * (shape.width / shape.heads) : nullptr;
  const int step = sequences_of_slice(shape);
  for (int s = 0; s < sequences; s += step)
    work(Slice{shape, rotation, sine, std::min(step, sequences - s)}, size_t(s) * shape.time);
}

// A batch and its share-out: each thread takes contiguous sequences, as equal a number as can be.
struct Batch {
  const Shape& shape;
  const float* const* weights;
  const float* rotation;
  int sequences, threads;
};

// work(thread, first sequence, number of sequences), at the same time; torch's own OpenMP threads, which wait for it
template <class Work>
void share_out(const Batch& batch, Work work) {
#pragma omp parallel for num_threads(batch.threads) schedule(static, 1)
  for (int t = 0; t < batch.threads; ++t) {
    const int first = int64_t(batch.sequences) * t / batch.threads;
    work(t, first, int(int64_t(batch.sequences) * (t + 1) / batch.threads) - first);
  }
}

size_t records_of_thread(const Batch& batch) {  // without a backward pass: one slice, one layer
  return size_t(sequences_of_slice(batch.shape)) * batch.shape.time * floats_per_token(batch.shape);
}

template <class Activation>
void forward(const Batch& batch, const float* input, float* records, bool keep, float* output) {
  const Shape& shape = batch.shape;
  share_out(batch, [&](int thread, int first, int count) {
    each_slice(shape, batch.rotation, count, [&](const Slice& slice, size_t done) {
      const size_t before = size_t(first) * shape.time + done, tokens = slice.tokens(), size = floats_per_token(shape);
      float* place = records + (keep ? before * size * shape.layers : thread * records_of_thread(batch));
      std::copy_n(input + before * shape.width, tokens * shape.width, place);
      for (int layer = 0; layer < shape.layers; ++layer) {
        const Record record = record_at(shape, place, tokens);
        if (keep) place += tokens * size;  // the next record begins with this layer's output
        const bool last = layer + 1 == shape.layers;
        slice.forward<Activation>(batch.weights + layer * kTensors, record,
                                  last ? output + before * shape.width : place);
      }
    });
  });
}

// gradients: one set of pointers per thread
template <class Activation>
void backward(const Batch& batch, float* records, float* gradient, float* const* gradients) {
  const Shape& shape = batch.shape;
  share_out(batch, [&](int thread, int first, int count) {
    float* const* own = gradients + size_t(thread) * shape.layers * kTensors;
    each_slice(shape, batch.rotation, count, [&](const Slice& slice, size_t done) {
      const size_t before = size_t(first) * shape.time + done, tokens = slice.tokens(), size = floats_per_token(shape);
      for (int layer = shape.layers; layer-- > 0;) {
        const Record record = record_at(shape, records + (before * shape.layers + layer * tokens) * size, tokens);
        slice.backward<Activation>(batch.weights + layer * kTensors, record, gradient + before * shape.width,
                                   own + layer * kTensors);
      }
    });
  });
}

template <class Work>
void with_activation(const Shape& shape, Work work) {
  switch (shape.activation) {
    case 0: return work(SquaredRelu{});
    case 1: return work(TanhGelu{});
    default: return work(ErfGelu{});
  }
}

}  // namespace

extern "C" {

int64_t trunk_record_floats(const Shape* shape, int sequences, int threads, int keep) {
  if (!keep) return threads * records_of_thread({*shape, nullptr, nullptr, sequences, threads});
  return size_t(sequences) * shape->time * shape->layers * floats_per_token(*shape);
}

void trunk_forward(const Shape* shape, const float* const* weights, const float* rotation, int sequences, int threads,
                   const float* input, float* records, int keep, float* output) {
  with_activation(*shape, [&](auto activation) {
    forward<decltype(activation)>({*shape, weights, rotation, sequences, threads}, input, records, keep, output);
  });
}

void trunk_backward(const Shape* shape, const float* const* weights, const float* rotation, int sequences, int threads,
                    float* records, float* gradient, float* const* gradients) {
  with_activation(*shape, [&](auto activation) {
    backward<decltype(activation)>({*shape, weights, rotation, sequences, threads}, records, gradient, gradients);
  });
}

void head_loss_forward(int tokens, int width, int vocabulary, int threads, const float* states, const float* weight,
                       const int64_t* targets, float* logits, float* losses) {
  head_forward({tokens, width, vocabulary, threads}, states, weight, targets, logits, losses);
}

void head_loss_backward(int tokens, int width, int vocabulary, int threads, const float* states, const float* weight,
                        float scale, float* gradient, float* to_states, float* to_weight) {
  head_backward({tokens, width, vocabulary, threads}, states, weight, scale, gradient, to_states, to_weight);
}
}
