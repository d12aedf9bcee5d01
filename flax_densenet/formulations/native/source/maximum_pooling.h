// 3x3 maximum pooling at stride 2, and its gradient.

#pragma once

#include <cstdint>
#include <limits>

#include "normalization.h"
#include "phases.h"
#include "scratch.h"

namespace densenet {

// Pools normalized maps behind the ReLU. A NaN is larger than all numbers.
template <typename T>
class MaximumPooling {
 public:
  explicit MaximumPooling(const Planes& planes)
      : planes_(planes), z_(planes, 1, -std::numeric_limits<T>::infinity()), d_(planes, 1) {
    for (int i = 0; i < kPixels; ++i) {
      offsets_[i] = (i / 3 - 1) * planes.row_pitch() + i % 3 - 1;
    }
  }

  // Reads x [height, width], writes y [pooled pixels] and which of the pixels of each window is the
  // largest, the first of equal ones.
  void forward(Affine<T> norm, const T* x, T* y, uint8_t* winners) {
    T* z = z_[0];
    planes_.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
      for (int i = 0; i < length(); ++i) z[padded + i] = relu(norm(x[dense + i]));
    });
    for_windows([=](int64_t pooled, int64_t center) {
      int winner = 0;
      T largest = z[center + offsets_[0]];
#pragma GCC unroll 8
      for (int i = 1; i < kPixels; ++i) {
        const T value = z[center + offsets_[i]];
        const bool wins = value > largest || value != value;
        winner = wins ? i : winner;
        largest = wins ? value : largest;
      }
      y[pooled] = largest;
      winners[pooled] = winner;
    });
  }

  // Takes the gradient for y to that behind the ReLU, which is returned as a padded plane.
  const T* gradient(const T* y, const uint8_t* winners, const T* of_y) {
    T* d = d_[0];
    planes_.for_segments([=](auto length, int64_t, int64_t padded) {
      for (int i = 0; i < length(); ++i) d[padded + i] = 0;
    });
    for_windows([=](int64_t pooled, int64_t center) {
      d[center + offsets_[winners[pooled]]] += y[pooled] > 0 ? of_y[pooled] : T(0);
    });
    return d;
  }

 private:
  static constexpr int kPixels = 9;

  // Calls f(pooled pixel, place of the window's center in a plane).
  template <typename F>
  void for_windows(F f) const {
    for (int64_t row = 0, pooled = 0; row < half(planes_.height); ++row) {
      const int64_t start = planes_.row(0, 2 * row);
      for (int64_t column = 0; column < half(planes_.width); ++column, ++pooled) {
        f(pooled, start + 2 * column);
      }
    }
  }

  Planes planes_;
  Scratch<T> z_, d_;
  int64_t offsets_[kPixels];
};

}  // namespace densenet
