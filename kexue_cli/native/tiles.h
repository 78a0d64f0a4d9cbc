// Tile registers of Intel's AMX: 16 rows of 64 bytes, multiplied as bfloat16 numbers and summed in float32.
//
// Tiles 0..3 are the sums of a 2 x 2 arrangement, 4 and 5 its left factors, 6 and 7 its right ones.
#pragma once

namespace {

// known without tiles too: templates name them in branches that only formats with tiles take
constexpr int kTileRows = 16;
constexpr int kTileDepth = 32;  // bfloat16 numbers in a row of a left factor

}  // namespace

#ifdef __AMX_BF16__

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace {

// Whether this process may use tiles: Linux grants their memory once, to all threads, when it is asked.
inline bool tiles_allowed() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool allowed = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return allowed;
}

// Left factors have 16 rows of `depth` numbers, right ones depth / 2 rows of 16 pairs; to be said once in each thread,
// and again after `release_tiles`.
inline void shape_tiles(int depth) {
  struct alignas(64) Shape {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } shape;
  for (int tile = 0; tile < 8; ++tile) {
    shape.row_bytes[tile] = tile == 4 || tile == 5 ? depth * sizeof(uint16_t) : 64;
    shape.rows[tile] = tile < 6 ? kTileRows : depth / 2;
  }
  asm volatile("" : : "r"(&shape) : "memory");  // the compiler does not know that tiles read memory
  _tile_loadconfig(&shape);
}

inline void release_tiles() { _tile_release(); }

// Rows of a matrix as tiles see them: `step` bytes from one row to the next.
struct TileRows {
  const void* first;
  ptrdiff_t step;
};

template <int L, int R>
inline void load_sums(TileRows upper, TileRows lower) {  // their right neighbours lie 64 bytes further
  const auto right = [](TileRows rows) { return static_cast<const char*>(rows.first) + 64; };
  asm volatile("" ::: "memory");
  _tile_loadd(0, upper.first, upper.step);
  if constexpr (R == 2) _tile_loadd(1, right(upper), upper.step);
  if constexpr (L == 2) _tile_loadd(2, lower.first, lower.step);
  if constexpr (L == 2 && R == 2) _tile_loadd(3, right(lower), lower.step);
}

template <int L, int R>
inline void store_sums(float* upper, float* lower, ptrdiff_t step) {
  _tile_stored(0, upper, step);
  if constexpr (R == 2) _tile_stored(1, upper + 16, step);
  if constexpr (L == 2) _tile_stored(2, lower, step);
  if constexpr (L == 2 && R == 2) _tile_stored(3, lower + 16, step);
}

// sums += left x right for L left factors and R right ones, of which the second lies 64 bytes beside the first
template <int L, int R>
inline void multiply_add_tiles(const void* upper, const void* lower, ptrdiff_t left_step, const void* right,
                               ptrdiff_t right_step) {
  asm volatile("" ::: "memory");
  _tile_loadd(4, upper, left_step);
  _tile_loadd(6, right, right_step);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (R == 2) {
    _tile_loadd(7, static_cast<const char*>(right) + 64, right_step);
    _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (L == 2) {
    _tile_loadd(5, lower, left_step);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (R == 2) _tile_dpbf16ps(3, 5, 7);
  }
}

}  // namespace

#endif
