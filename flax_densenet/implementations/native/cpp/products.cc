// A tile of results stays in registers while the operands are read from the cache, so that nearly
// every cycle multiplies. (The tiles of winograd.h are something else.)

#include "products.h"

#include <algorithm>
#include <type_traits>

#include "lane_sums.h"

namespace densenet {
namespace {

// Calls f(n as a constant), for 1 <= n <= kMax.
template <int kMax, typename F>
inline void with_constant(int n, F f) {
  if (n == kMax) {
    f(std::integral_constant<int, kMax>());
  } else if constexpr (kMax > 1) {
    with_constant<kMax - 1>(n, f);
  }
}

// kTaps is the number of taps, or 0 if it is not a constant. A loop over a single tap would cost a
// third.
template <int kChannels, int kVectors, int kTaps, typename T>
inline void convolve_tile(const T* x, int64_t x_pitch, int inputs, const int64_t* offsets, int taps,
                          const T* weights, int64_t prefetch, T* y, int64_t y_pitch,
                          WriteMode mode) {
  Vector<T> sums[kChannels][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < kChannels; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[m][v] = mode == WriteMode::kAdd ? load(y + m * y_pitch + v * kLanes<T>) : Vector<T>{};
    }
  }
  for (int c = 0; c < inputs; ++c, x += x_pitch) {
    for (int t = 0; t < (kTaps ? kTaps : taps); ++t, weights += kChannels) {
      __builtin_prefetch(weights + prefetch);
      Vector<T> pixels[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) pixels[v] = load(x + offsets[t] + v * kLanes<T>);
#pragma GCC unroll 16
      for (int m = 0; m < kChannels; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[m][v] += weights[m] * pixels[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kChannels; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(y + m * y_pitch + v * kLanes<T>, sums[m][v]);
  }
}

template <int kChannels, int kTaps, typename T>
inline void convolve_span(Pixels<T> x, int inputs, const int64_t* offsets, int taps,
                          const T* weights, int64_t prefetch, T* y, int64_t y_pitch, int64_t span,
                          WriteMode mode) {
  int64_t q = 0;
  for (; q + kPanel<T> <= span; q += kPanel<T>) {
    convolve_tile<kChannels, 2, kTaps>(x.start + q * x.step, x.pitch, inputs, offsets, taps,
                                       weights, prefetch, y + q, y_pitch, mode);
  }
  if (q < span) {
    convolve_tile<kChannels, 1, kTaps>(x.start + q * x.step, x.pitch, inputs, offsets, taps,
                                       weights, prefetch, y + q, y_pitch, mode);
  }
}

constexpr int kRegisterRows = kManyRegisters ? 4 : 3;
constexpr int kRegisterColumns = kManyRegisters ? 6 : 3;

// Pixels that are correlated at a time, so that the columns of a tile stay in the first cache.
constexpr int64_t kPiece = 1024;

template <int kRows, int kColumns, typename T>
inline void correlate_tile(const T* const* a, const T* b, int64_t b_pitch, int64_t first,
                           int64_t end, T* sums, int64_t sums_pitch) {
  Vector<T> tile[kRows][kColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) tile[i][j] = Vector<T>{};
  }
  for (int64_t q = first; q < end; q += kLanes<T>) {
    Vector<T> columns[kColumns];
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) columns[j] = load_once(b + j * b_pitch + q);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Vector<T> row = load_once(a[i] + q);
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) tile[i][j] += row * columns[j];
    }
  }
  T totals[kRows][kColumns];
  write_sums<T, kRows * kColumns>(tile[0], totals[0]);
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) sums[i * sums_pitch + j] += totals[i][j];
  }
}

}  // namespace

template <typename T>
void convolve(Pixels<T> x, int inputs, const std::vector<int64_t>& offsets, const T* weights,
              int64_t prefetch, T* y, int64_t y_pitch, int outputs, int64_t span, WriteMode mode) {
  const int taps = offsets.size();
  with_constant<kRegisterChannels>(outputs, [&](auto channels) {
    taps == 1 ? convolve_span<channels(), 1>(x, inputs, offsets.data(), taps, weights, prefetch, y,
                                             y_pitch, span, mode)
              : convolve_span<channels(), 0>(x, inputs, offsets.data(), taps, weights, prefetch, y,
                                             y_pitch, span, mode);
  });
}

template <typename T>
void multiply(int count, ProductPitches pitches, const T* x, int64_t x_pitch, int inputs,
              const T* weights, T* y, int64_t y_pitch, int outputs, int64_t span, WriteMode mode) {
  const int64_t offset = 0;
  with_constant<kRegisterChannels>(outputs, [&](auto channels) {
    for (int i = 0; i < count; ++i, x += pitches.x, weights += pitches.weights, y += pitches.y) {
      convolve_span<channels(), 1>(Pixels<T>{x, x_pitch, 1}, inputs, &offset, 1, weights,
                                   pitches.weights, y, y_pitch, span, mode);
    }
  });
}

template <typename T>
void correlate(const std::vector<const T*>& a, const T* b, int64_t b_pitch, int columns,
               int64_t span, T* sums, int64_t sums_pitch) {
  const int rows = a.size();
  for (int64_t q = 0; q < span; q += kPiece) {
    const int64_t length = std::min(kPiece, span - q);
    for (int j = 0; j < columns; j += kRegisterColumns) {
      with_constant<kRegisterColumns>(std::min(kRegisterColumns, columns - j), [&](auto width) {
        for (int i = 0; i < rows; i += kRegisterRows) {
          with_constant<kRegisterRows>(std::min(kRegisterRows, rows - i), [&](auto height) {
            correlate_tile<height(), width()>(&a[i], b + j * b_pitch, b_pitch, q, q + length,
                                              sums + i * sums_pitch + j, sums_pitch);
          });
        }
      });
    }
  }
}

#define DENSENET_PRODUCTS(T)                                                                    \
  template void convolve<T>(Pixels<T>, int, const std::vector<int64_t>&, const T*, int64_t, T*, \
                            int64_t, int, int64_t, WriteMode);                                  \
  template void multiply<T>(int, ProductPitches, const T*, int64_t, int, const T*, T*, int64_t, \
                            int, int64_t, WriteMode);                                           \
  template void correlate<T>(const std::vector<const T*>&, const T*, int64_t, int, int64_t, T*, \
                             int64_t)

DENSENET_PRODUCTS(float);
DENSENET_PRODUCTS(double);

}  // namespace densenet
