// The stem of the ImageNet networks: 7x7 convolution at stride 2, normalization, ReLU and 3x3 maximum
// pooling at stride 2, one image at a time.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "normalization.h"
#include "scratch.h"

namespace densenet {

inline int64_t half(int64_t size) { return (size + 1) / 2; }

// The maps of the stem, padded by what both its convolution and its pooling reach.
inline Planes stem_planes(int64_t height, int64_t width) {
  return {1, half(height), half(width), 2};
}

// An image cut into its even and odd rows and columns: at stride 2 each tap of the convolution reads
// one of the four, at an offset that is the same for all pixels.
template <typename T>
class Phases {
 public:
  static constexpr int kSize = 7;

  Phases(int64_t height, int64_t width, int channels)
      : height_(height), width_(width), channels_(channels),
        planes_(stem_planes(height, width)), memory_(planes_, 4 * channels) {
    for (int ky = 0; ky < kSize; ++ky) {
      for (int kx = 0; kx < kSize; ++kx) {
        for (int c = 0; c < channels; ++c) {
          const int y = ky - kSize / 2, x = kx - kSize / 2;
          offsets_.push_back(plane(c, y, x) * memory_.pitch() +
                             (y >> 1) * planes_.row_pitch() + (x >> 1));
        }
      }
    }
  }

  const Planes& planes() const { return planes_; }
  const T* start() { return memory_[0]; }
  const std::vector<int64_t>& offsets() const { return offsets_; }  // of taps [7, 7, channels]

  // Reads [height, width, channels].
  void load(const T* image) {
    for (int64_t y = 0; y < height_; ++y) {
      const int64_t row = planes_.row(0, y / 2);
      for (int c = 0; c < channels_; ++c) {
        const T* from = image + y * width_ * channels_ + c;
        T *even = memory_[plane(c, y, 0)] + row, *odd = memory_[plane(c, y, 1)] + row;
        for (int64_t x = 0; x < width_; x += 2) even[x / 2] = from[x * channels_];
        for (int64_t x = 1; x < width_; x += 2) odd[x / 2] = from[x * channels_];
      }
    }
  }

 private:
  int plane(int channel, int64_t y, int64_t x) const {
    return ((y & 1) * 2 + (x & 1)) * channels_ + channel;
  }

  int64_t height_, width_;
  int channels_;
  Planes planes_;
  Scratch<T> memory_;
  std::vector<int64_t> offsets_;
};

// 3x3 maximum pooling at stride 2, of normalized maps behind the ReLU. A NaN is larger than all
// numbers.
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
