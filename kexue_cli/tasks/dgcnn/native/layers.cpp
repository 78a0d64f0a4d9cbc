// The kernels of the gated blocks, of self-attention and of the embedding by name, in both number formats.

#include "attention.h"
#include "embedding.h"
#include "gated_block.h"

#ifdef __AMX_BF16__
constexpr int kHasBFloat16 = 1;
#define IN_FORMAT(bfloat16, function, ...)                          \
  (!(bfloat16)       ? function<Float32>(__VA_ARGS__)                 \
   : tiles_allowed() ? function<BFloat16InTiles>(__VA_ARGS__)         \
                     : function<BFloat16>(__VA_ARGS__))
#elif defined __AVX512BF16__
constexpr int kHasBFloat16 = 1;
#define IN_FORMAT(bfloat16, function, ...) ((bfloat16) ? function<BFloat16>(__VA_ARGS__) : function<Float32>(__VA_ARGS__))
#else
constexpr int kHasBFloat16 = 0;
#define IN_FORMAT(bfloat16, function, ...) function<Float32>(__VA_ARGS__)
#endif

extern "C" {

int has_bfloat16() { return kHasBFloat16; }

void gated_forward(int bfloat16, const BlockShape* shape, const void* x, const uint8_t* mask, const int32_t* weights,
                   const float* bias, void* y, void* slopes) {
  IN_FORMAT(bfloat16, forward_batch, *shape, x, mask, weights, bias, y, slopes);
}

void gated_backward(int bfloat16, const BlockShape* shape, const void* x, const uint8_t* mask, const int32_t* weights,
                    const void* slopes, const void* to_y, void* to_x, float* to_weights, float* to_bias) {
  IN_FORMAT(bfloat16, backward_batch, *shape, x, mask, weights, slopes, to_y, to_x, to_weights, to_bias);
}

void attention_forward(int bfloat16, const AttentionShape* shape, const void* rows, const uint8_t* mask, void* seen,
                       float* totals) {
  IN_FORMAT(bfloat16, attend_batch, *shape, rows, mask, seen, totals);
}

void attention_backward(int bfloat16, const AttentionShape* shape, const void* rows, const uint8_t* mask,
                        const void* to_seen, const float* totals, void* to_rows) {
  IN_FORMAT(bfloat16, attend_back_batch, *shape, rows, mask, to_seen, totals, to_rows);
}

void embedding_forward(int bfloat16, const EmbeddingShape* shape, const int64_t* ids, const float* characters,
                       const void* words, void* result) {
  IN_FORMAT(bfloat16, embed, *shape, ids, characters, words, result);
}

void embedding_backward(int bfloat16, const EmbeddingShape* shape, const int64_t* ids, const void* gradient,
                        void* to_words, float* to_characters) {
  IN_FORMAT(bfloat16, embed_backward, *shape, ids, gradient, to_words, to_characters);
}

}  // extern "C"
