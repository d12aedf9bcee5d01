// Planes: the pixels of one channel in a chunk of images.
//
// They are dense in memory and padded while they are multiplied.
//
// A padded plane has `reach` zeros after each row, `reach` rows of zeros after each image, and a
// guard of zeros at both ends. What follows a row or an image has its margin in them, too. Each tap
// of a convolution is then one offset, the same for all pixels.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "products.h"

namespace densenet {

constexpr int kMaxSegment = 32;

// Cuts rows of `width` pixels into segments; calls f with their length, as a constant.
//
// It is the longest length up to kMost that leaves no remainder, and even for even rows.
template <int kMost, typename F>
DENSENET_INLINE inline void with_segment(int64_t width, F f) {
  bool found = false;
  const auto attempt = [&](auto length) DENSENET_INLINE {
    if constexpr (length() <= kMost) {
      if (found || width % length() != 0 || (length() % 2 != 0 && width % 2 == 0)) return;
      found = true;
      f(length);
    }
  };
  const auto attempt_all = [&](auto... lengths) DENSENET_INLINE { (attempt(lengths), ...); };
  using std::integral_constant;
  attempt_all(integral_constant<int, 32>(), integral_constant<int, 28>(),
              integral_constant<int, 16>(), integral_constant<int, 14>(),
              integral_constant<int, 8>(), integral_constant<int, 7>(), integral_constant<int, 4>(),
              integral_constant<int, 2>(), integral_constant<int, 1>());
}

struct Planes {
  int64_t images, height, width, reach;

  int64_t pixels() const { return images * height * width; }
  int64_t row_pitch() const { return width + reach; }
  int64_t guard() const { return reach * (row_pitch() + 1); }
  int64_t row(int64_t image, int64_t y) const {
    return (image * (height + reach) + y) * row_pitch();
  }

  // The number of pixels that are computed, in whole vectors.
  template <typename T>
  int64_t span() const {
    const int64_t used = reach == 0 ? pixels() : images * (height + reach) * row_pitch();
    return (used + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  }

  // The distance from one padded plane to the next. Whole vectors keep all planes aligned; their
  // number is odd, because caches collide at multiples of 4096 bytes.
  template <typename T>
  int64_t pitch() const {
    const int64_t vectors = (span<T>() + 2 * guard()) / kLanes<T> + 1;
    return (vectors | 1) * kLanes<T>;
  }

  // Offsets of the taps, row by row; `sign` is -1 for the gradient.
  std::vector<int64_t> offsets(int sign) const {
    std::vector<int64_t> all;
    for (int64_t y = -reach; y <= reach; ++y) {
      for (int64_t x = -reach; x <= reach; ++x) all.push_back(sign * (y * row_pitch() + x));
    }
    return all;
  }

  // Calls f(length as a constant, place in a dense plane, place in a padded plane) for all
  // segments.
  template <int kMost = kMaxSegment, typename F>
  DENSENET_INLINE void for_segments(F f) const {
    if (reach == 0) return for_rows<kMost>(1, 1, pixels(), f);
    for_rows<kMost>(images, height, width, f);
  }

 private:
  template <int kMost, typename F>
  DENSENET_INLINE void for_rows(int64_t images, int64_t rows, int64_t width, F f) const {
    with_segment<kMost>(
        width, [&](auto length) DENSENET_INLINE { cut<length()>(images, rows, width, f); });
  }

  template <int kLength, typename F>
  DENSENET_INLINE void cut(int64_t images, int64_t rows, int64_t width, F f) const {
    const std::integral_constant<int, kLength> length;
    for (int64_t image = 0, dense = 0; image < images; ++image) {
      for (int64_t y = 0; y < rows; ++y) {
        const int64_t start = row(image, y);
        for (int64_t x = 0; x < width; x += kLength, dense += kLength) f(length, dense, start + x);
      }
    }
  }
};

// One thread's padded planes, whose padding is zero or another value.
template <typename T>
class Scratch {
 public:
  Scratch(const Planes& planes, int channels, T padding = 0)
      : pitch_(planes.pitch<T>()),
        memory_(new T[pitch_ * channels + planes.guard() + kLanes<T>]),
        start_(aligned(memory_.get() + planes.guard())) {
    if (planes.reach > 0) {
      std::fill(memory_.get(), start_ + pitch_ * channels, padding);
      return;
    }
    for (int c = 0; c < channels; ++c) {
      std::fill((*this)[c] + planes.pixels(), (*this)[c] + pitch_, padding);
    }
  }

  T* operator[](int channel) { return start_ + channel * pitch_; }
  int64_t pitch() const { return pitch_; }

 private:
  int64_t pitch_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

// Sums of many values, one sum for each place in a segment.
template <typename T>
struct SegmentSum {
  T lanes[kMaxSegment] = {};

  T total() const {
    T sum = 0;
    for (T lane : lanes) sum += lane;
    return sum;
  }
};

}  // namespace densenet
