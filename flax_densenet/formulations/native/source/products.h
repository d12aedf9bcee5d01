// The two products that a convolution and its gradients are made of.
//
// Both keep a tile of results in registers while they read their operands from the cache, so that
// nearly every cycle multiplies. Planes are the pixels of one channel; a tap of a convolution is an
// offset into a plane (see planes.h).

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

namespace densenet {

// Channels in a tile: with two vectors of pixels each, most of the registers.
constexpr int kTileChannels = kManyRegisters ? 12 : 6;

template <typename T>
constexpr int kTilePixels = 2 * kLanes<T>;

// Calls f with `n` as a constant, for 1 <= n <= kMax.
template <int kMax, typename F>
inline void with_constant(int n, F f) {
  if (n == kMax) {
    f(std::integral_constant<int, kMax>());
  } else if constexpr (kMax > 1) {
    with_constant<kMax - 1>(n, f);
  }
}

template <int kChannels, typename T>
inline void convolve_tile(const T* x, int64_t x_pitch, int inputs, const int64_t* offsets, int taps,
                          const T* weights, T* y, int64_t y_pitch, bool adds) {
  Vector<T> sums[kChannels][2];
#pragma GCC unroll 16
  for (int m = 0; m < kChannels; ++m) {
    sums[m][0] = adds ? load(y + m * y_pitch) : Vector<T>{};
    sums[m][1] = adds ? load(y + m * y_pitch + kLanes<T>) : Vector<T>{};
  }
  for (int c = 0; c < inputs; ++c, x += x_pitch) {
    for (int t = 0; t < taps; ++t, weights += kChannels) {
      const Vector<T> left = load(x + offsets[t]);
      const Vector<T> right = load(x + offsets[t] + kLanes<T>);
#pragma GCC unroll 16
      for (int m = 0; m < kChannels; ++m) {
        sums[m][0] += weights[m] * left;
        sums[m][1] += weights[m] * right;
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kChannels; ++m) {
    store(y + m * y_pitch, sums[m][0]);
    store(y + m * y_pitch + kLanes<T>, sums[m][1]);
  }
}

// y[m, q] (+)= sum over inputs c and taps t of weights[c, t, m] x[c, q + offsets[t]],
// for all q < span (a multiple of kTilePixels) and m < outputs <= kTileChannels.
template <typename T>
void convolve(const T* x, int64_t x_pitch, int inputs, const std::vector<int64_t>& offsets,
              const T* weights, T* y, int64_t y_pitch, int outputs, int64_t span, bool adds) {
  with_constant<kTileChannels>(outputs, [&](auto channels) {
    for (int64_t q = 0; q < span; q += kTilePixels<T>) {
      convolve_tile<channels()>(x + q, x_pitch, inputs, offsets.data(), offsets.size(), weights,
                                y + q, y_pitch, adds);
    }
  });
}

constexpr int kTileRows = kManyRegisters ? 4 : 3;
constexpr int kTileColumns = kManyRegisters ? 6 : 3;

template <int kRows, int kColumns, typename T>
inline void correlate_tile(const T* const* a, const T* b, int64_t b_pitch, int64_t span, T* sums,
                           int64_t sums_pitch) {
  Vector<T> tile[kRows][kColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) tile[i][j] = Vector<T>{};
  }
  for (int64_t q = 0; q < span; q += kLanes<T>) {
    Vector<T> columns[kColumns];
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) columns[j] = load(b + j * b_pitch + q);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Vector<T> row = load(a[i] + q);
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) tile[i][j] += row * columns[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) sums[i * sums_pitch + j] += sum_lanes<T>(tile[i][j]);
  }
}

// sums[i, j] += sum over q < span of a[i][q] b[j, q].
template <typename T>
void correlate(const std::vector<const T*>& a, const T* b, int64_t b_pitch, int columns,
               int64_t span, T* sums, int64_t sums_pitch) {
  const int rows = a.size();
  for (int j = 0; j < columns; j += kTileColumns) {
    with_constant<kTileColumns>(std::min(kTileColumns, columns - j), [&](auto width) {
      for (int i = 0; i < rows; i += kTileRows) {
        with_constant<kTileRows>(std::min(kTileRows, rows - i), [&](auto height) {
          correlate_tile<height(), width()>(&a[i], b + j * b_pitch, b_pitch, span,
                                            sums + i * sums_pitch + j, sums_pitch);
        });
      }
    });
  }
}

}  // namespace densenet
