// Lloyd's assignment of rows to their nearest centres, and what it changes in the sums of the clusters, in one pass.
//
// A row keeps an upper bound of the distance to its own centre and a lower bound of that to any other (Hamerly, "Making
// k-means even faster", 2010); where these tell its cluster, it is not even read. The other rows wait until a panel is
// full. There they lie column by column, a row per lane: a register tile of 4 centres x 6 vectors of rows is summed up
// and goes straight into the largest score of each lane, so that distances are never stored.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

constexpr int kCentres = 4;  // of a register tile; kmeans_pass.py packs them so
constexpr int kVectors = 6;
constexpr int kTrial = 256;  // rows whose bounds are tested at any rate
constexpr int kWorth = 4;    // then only while one row in so many is spared

template <class T>
struct Simd;

template <>
struct Simd<float> {
  using Vector = __m512;
  using Index = __m512i;
  static constexpr int kLanes = 16;
  static Vector load(const float* p, int count) {
    return _mm512_maskz_loadu_ps(count < kLanes ? (1u << count) - 1 : 0xffff, p);
  }
  static __m512d load_wide(const float* p, int count) {  // 8 numbers
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(count < 8 ? (1u << count) - 1 : 0xff, p));
  }
  static Vector permute(Vector a, Index index, Vector b) { return _mm512_permutex2var_ps(a, index, b); }
  static float total(Vector a) { return _mm512_reduce_add_ps(a); }
};

template <>
struct Simd<double> {
  using Vector = __m512d;
  using Index = __m512i;
  static constexpr int kLanes = 8;
  static Vector load(const double* p, int count) {
    return _mm512_maskz_loadu_pd(count < kLanes ? (1u << count) - 1 : 0xff, p);
  }
  static __m512d load_wide(const double* p, int count) { return load(p, count); }
  static void store(double* p, int count, Vector a) {
    _mm512_mask_storeu_pd(p, count < kLanes ? (1u << count) - 1 : 0xff, a);
  }
  static Vector permute(Vector a, Index index, Vector b) { return _mm512_permutex2var_pd(a, index, b); }
  static double total(Vector a) { return _mm512_reduce_add_pd(a); }
};

template <class T>
using Vector = typename Simd<T>::Vector;
template <class T>
using Lane = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// where lane l of two vectors i and i + S comes from when their S x S blocks off the diagonal change places
template <class T, int S>
struct Exchange {
  static constexpr int n = Simd<T>::kLanes;
  alignas(64) Lane<T> low[n], high[n];
  constexpr Exchange() : low(), high() {
    for (int l = 0; l < n; ++l) low[l] = l & S ? (l ^ S) + n : l, high[l] = l & S ? l + n : l ^ S;
  }
};

template <class T, int S = 1>
void transpose(Vector<T>* v) {  // a square of kLanes vectors
  static constexpr Exchange<T, S> exchange;
  constexpr int n = Simd<T>::kLanes;
  const auto low = *(const typename Simd<T>::Index*)exchange.low, high = *(const typename Simd<T>::Index*)exchange.high;
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) {
    if (i & S) continue;
    const Vector<T> a = v[i], b = v[i + S];
    v[i] = Simd<T>::permute(a, low, b), v[i + S] = Simd<T>::permute(a, high, b);
  }
  if constexpr (2 * S < n) transpose<T, 2 * S>(v);
}

template <class T>
T* aligned(std::vector<T>& storage, size_t count) {
  storage.resize(count + 64 / sizeof(T));
  return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(storage.data()) + 63) / 64 * 64);
}

}  // namespace

struct Pass {  // kmeans_pass.py has the same
  const void* rows;              // (rows, columns) of T
  const double* shift;           // (columns) taken off the rows before they are summed
  const void* near_shift;        // (columns) of T, taken off before they are compared
  const void *centres, *packed;  // (clusters, columns) beyond near_shift; [group of 4][columns][4], then zeros
  const void* half;              // (clusters up to a multiple of 4) |centre|^2 / 2, then infinity
  const double* weights;         // (rows), or null
  const float *safe, *travelled;  // (clusters) half the distance to the next centre; how far each has moved in all
  int32_t* labels;               // (rows), overwritten
  float *upper, *lower;          // (rows) bounds: minus `travelled` of the own centre, plus `drift`
  double *sums, *count;          // (clusters, columns), (clusters): these are added to
  int64_t row_count;
  int32_t columns, clusters;
  int32_t afresh;           // sums gain all rows, else the changes by rows that moved
  int32_t prune;            // whether bounds and labels are of earlier passes
  float drift;              // sum over passes of the largest movement of a centre
  float rounding;           // relative slack of distances that come from a product
  int64_t moved, compared;  // found: rows that moved, rows compared with all centres
  double square;            // found, if afresh: weighted sum of |row - shift|^2
};

namespace {

template <class T>
class Assignment {
  static constexpr int kLanes = Simd<T>::kLanes;
  static constexpr int kPanel = kVectors * kLanes;

 public:
  explicit Assignment(Pass& pass)
      : p(pass), d(p.columns), x((const T*)p.rows), shift((const T*)p.near_shift), centres((const T*)p.centres) {
    panel = aligned(storage, size_t(d) * kPanel);
    const T* half = (const T*)p.half;
    T longest = 0;
    for (int k = 0; k < p.clusters; ++k) longest = std::max(longest, half[k]);
    slack = 2 * p.rounding * longest;
  }

  void run() {
    int64_t spared = 0;
    for (int64_t row = 0; row < p.row_count; ++row) {
      const bool worth_a_test = p.prune && (row < kTrial || spared * kWorth > row);
      if (worth_a_test && certain(row)) {
        ++spared;
        if (p.afresh) p.square += add(row, p.labels[row], 1);
        continue;
      }
      waiting[count++] = row;
      if (count == kPanel) resolve();
    }
    if (count) resolve();
  }

 private:
  T squared_distance(int64_t row, const T* centre) const {
    const T* values = x + row * d;
    Vector<T> total{};
    for (int j = 0; j < d; j += kLanes) {
      const Vector<T> y = Simd<T>::load(values + j, d - j) - Simd<T>::load(shift + j, d - j);
      const Vector<T> way = y - Simd<T>::load(centre + j, d - j);
      total = way * way + total;
    }
    return Simd<T>::total(total);
  }

  // whether no centre can be nearer than the own one; reads the row if the bounds leave that open
  bool certain(int64_t row) {
    const int own = p.labels[row];
    const float more = 1 + p.rounding, less = 1 - p.rounding;
    const float reach = less * std::max(p.safe[own], p.lower[row] - more * p.drift);
    if (p.upper[row] + more * p.travelled[own] < reach) return true;
    const float distance = more * std::sqrt(float(squared_distance(row, centres + size_t(own) * d)));
    p.upper[row] = distance - p.travelled[own];
    return distance < reach;
  }

  // the row's weighted |row - shift|^2
  double add(int64_t row, int cluster, double sign) {
    using Wide = Simd<double>;
    const T* values = x + row * d;
    double* sum = p.sums + size_t(cluster) * d;
    const double amount = sign * (p.weights ? p.weights[row] : 1.0);
    p.count[cluster] += amount;
    __m512d square{};
    for (int j = 0; j < d; j += Wide::kLanes) {
      const __m512d y = Simd<T>::load_wide(values + j, d - j) - Wide::load(p.shift + j, d - j);
      Wide::store(sum + j, d - j, Wide::load(sum + j, d - j) + amount * y);
      square = y * y + square;
    }
    return amount * Wide::total(square);
  }

  void resolve() {
    lay_out();
    score();
    for (int b = 0; b < kPanel; ++b) {
      const T far = square[b] - 2 * top[b], next = square[b] - 2 * second[b], loose = p.rounding * square[b] + slack;
      above[b] = std::sqrt(std::max(far + loose, T(0)));
      below[b] = std::sqrt(std::max(next - loose, T(0)));
    }
    for (int b = 0; b < count; ++b) settle(b);
    p.compared += count;
    count = 0;
  }

  void settle(int b) {
    const int64_t row = waiting[b];
    const int from = p.labels[row], to = int(best[b]);
    p.upper[row] = float(above[b]) - p.travelled[to];
    p.lower[row] = float(below[b]) + p.drift;
    if (p.afresh) p.square += add(row, to, 1);
    if (from == to) return;
    if (!p.afresh) add(row, from, -1), add(row, to, 1);
    p.labels[row] = to;
    ++p.moved;
  }

  void lay_out() {  // waiting rows without shift into the panel (columns, kPanel), and their squared norms
    for (int first = 0; first < count; first += kLanes) {
      const T* from[kLanes];
      for (int l = 0; l < kLanes; ++l) from[l] = x + waiting[std::min(first + l, count - 1)] * d;
      Vector<T> norm{};
      for (int j = 0; j < d; j += kLanes) {
        Vector<T> tile[kLanes];
        const Vector<T> origin = Simd<T>::load(shift + j, d - j);
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; ++l) tile[l] = Simd<T>::load(from[l] + j, d - j) - origin;
        transpose<T>(tile);
        T* to = panel + size_t(j) * kPanel + first;
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; ++l) {
          norm = tile[l] * tile[l] + norm;
          if (j + l < d) *(Vector<T>*)(to + l * kPanel) = tile[l];
        }
      }
      *(Vector<T>*)(square + first) = norm;
    }
  }

  // meanwhile a part of the rows that come next is brought into the cache
  [[gnu::always_inline]] void fetch_next(int first_cluster) const {
    const int64_t next = waiting[count - 1] + 1, rows = std::min<int64_t>(kPanel, p.row_count - next);
    const char *begin = (const char*)(x + next * d), *end = (const char*)(x + (next + rows) * d);
    const ptrdiff_t share = (end - begin) * kCentres / p.clusters / 64 * 64 + 64;
    begin += share * (first_cluster / kCentres);
    for (const char* line = begin; line < std::min(begin + share, end); line += 64) _mm_prefetch(line, _MM_HINT_T0);
  }

  // y.c - |c|^2/2 of each row with each centre: the largest, the next, and whose the largest is (the first of equals)
  void score() {
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    std::fill_n(top, kPanel, kNone), std::fill_n(second, kPanel, kNone), std::fill_n(best, kPanel, T(0));
    for (int first = 0; first < p.clusters; first += kCentres) {
      fetch_next(first);
      Vector<T> sum[kCentres][kVectors];
      const T* factor = (const T*)p.packed + size_t(first) * d;
      const T* half = (const T*)p.half + first;
#pragma GCC unroll 4
      for (int c = 0; c < kCentres; ++c)
#pragma GCC unroll 6
        for (int v = 0; v < kVectors; ++v) sum[c][v] = Vector<T>{} - half[c];
      for (int j = 0; j < d; ++j, factor += kCentres) {
        Vector<T> y[kVectors];
#pragma GCC unroll 6
        for (int v = 0; v < kVectors; ++v) y[v] = ((const Vector<T>*)(panel + size_t(j) * kPanel))[v];
#pragma GCC unroll 4
        for (int c = 0; c < kCentres; ++c)
#pragma GCC unroll 6
          for (int v = 0; v < kVectors; ++v) sum[c][v] = y[v] * factor[c] + sum[c][v];
      }
#pragma GCC unroll 6
      for (int v = 0; v < kVectors; ++v) {
        Vector<T>&most = ((Vector<T>*)top)[v], &next = ((Vector<T>*)second)[v], &whose = ((Vector<T>*)best)[v];
#pragma GCC unroll 4
        for (int c = 0; c < kCentres; ++c) {
          const Vector<T> value = sum[c][v], lesser = value < most ? value : most;
          next = lesser > next ? lesser : next;
          whose = value > most ? Vector<T>{} + T(first + c) : whose;
          most = value > most ? value : most;
        }
      }
    }
  }

  Pass& p;
  const ptrdiff_t d;
  const T *x, *shift, *centres;
  T slack;  // of squared distances
  int count = 0;
  int64_t waiting[kPanel];
  std::vector<T> storage;
  T* panel;
  alignas(64) T square[kPanel] = {};
  alignas(64) T top[kPanel], second[kPanel], best[kPanel] = {}, above[kPanel], below[kPanel];
};

}  // namespace

extern "C" {
void kmeans_assign_float32(Pass* pass) { Assignment<float>(*pass).run(); }
void kmeans_assign_float64(Pass* pass) { Assignment<double>(*pass).run(); }
}
