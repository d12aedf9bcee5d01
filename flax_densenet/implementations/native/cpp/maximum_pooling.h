// 3x3 maximum pooling at stride 2, and its gradient.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "normalization.h"
#include "phases.h"
#include "planes.h"
#include "segments.h"

namespace densenet {

// Normalizes maps, applies the ReLU and pools them. A NaN is larger than all numbers.
template <typename T>
class MaximumPooling {
 public:
  explicit MaximumPooling(const Planes& planes)
      : planes_(planes), z_(planes, 1, -std::numeric_limits<T>::infinity()), grad_(planes, 1) {
    for (int i = 0; i < kPixels; ++i) {
      offsets_[i] = (i / 3 - 1) * planes.row_pitch() + i % 3 - 1;
    }
  }

  // Reads x [height, width], writes y [pooled pixels]. Unless it is null, `winners` gets which
  // pixel of each window is the largest, the first of equal ones.
  void forward(Affine<T> norm, const T* x, T* y, uint8_t* winners) {
    T* z = z_[0];
    planes_.template for_segments<2 * kLanes<T>>([=](auto length, int64_t dense, int64_t padded) {
      store_pixels<length()>(z + padded, norm_relu(norm, load_pixels<length()>(x + dense)));
    });
    const int64_t columns = half(planes_.width);
    for (int64_t row = 0; row < half(planes_.height); ++row) {
      const T* center = z + planes_.row(0, 2 * row);
      for (int64_t column = 0; column < columns; column += kLanes<T>) {
        const int64_t pooled = row * columns + column;
        const int64_t count = std::min<int64_t>(kLanes<T>, columns - column);
        pool(center + 2 * column, count, y + pooled, winners ? winners + pooled : nullptr);
      }
    }
  }

  // Reads the gradient for y, returns that before the ReLU as a padded plane.
  const T* gradient(const T* y, const uint8_t* winners, const T* grad_y) {
    T* grad = grad_[0];
    planes_.for_segments([=](auto length, int64_t, int64_t padded) {
      for (int i = 0; i < length(); ++i) grad[padded + i] = 0;
    });
    for_windows([=](int64_t pooled, int64_t center) {
      grad[center + offsets_[winners[pooled]]] += y[pooled] > 0 ? grad_y[pooled] : T(0);
    });
    return grad;
  }

 private:
  static constexpr int kPixels = 9;

  // Pools windows side by side, from this center on.
  void pool(const T* center, int64_t count, T* y, uint8_t* winners) {
    Vector<T> largest, winner = {};
    for (int i = 0; i < kPixels; ++i) {
      const T* row = center + (i / 3 - 1) * planes_.row_pitch() + i % 3 - 1;
      const Vector<T> value = split<T>({load(row), load(row + kLanes<T>)})[0];
      if (i == 0) {
        largest = value;
        continue;
      }
      const auto wins = value > largest || value != value;
      winner = wins ? Vector<T>{} + T(i) : winner;
      largest = wins ? value : largest;
    }
    std::memcpy(y, &largest, count * sizeof(T));
    if (!winners) return;
    typedef uint8_t Bytes __attribute__((vector_size(kLanes<T>)));
    const Bytes places = __builtin_convertvector(winner, Bytes);
    std::memcpy(winners, &places, count);
  }

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
  Scratch<T> z_, grad_;
  int64_t offsets_[kPixels];
};

}  // namespace densenet
