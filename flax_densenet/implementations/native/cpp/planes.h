// Planes: the pixels of one channel in a chunk of images, dense in memory, padded while multiplied.
//
// A padded plane has `reach` zeros behind each row and `reach` rows of zeros behind each image,
// which serve as the margin of what follows, too, and a guard of zeros at both ends. Each tap of a
// convolution is then one offset, the same for all pixels.

#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "products.h"

namespace densenet {

constexpr int kMaxSegment = 32;

// Calls f with the length of the segments, as a constant, that a row of so many pixels is cut into:
// of those not above kMost the longest that leaves no remainder, and an even one for an even row.
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

  // Pixels that are computed, in whole vectors.
  template <typename T>
  int64_t span() const {
    const int64_t used = reach == 0 ? pixels() : images * (height + reach) * row_pitch();
    return (used + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  }

  // From one padded plane to the next: whole vectors, so that all planes are aligned if the first
  // is, and an odd number of them, since caches collide at multiples of 4096 bytes.
  template <typename T>
  int64_t pitch() const {
    const int64_t vectors = (span<T>() + 2 * guard()) / kLanes<T> + 1;
    return (vectors | 1) * kLanes<T>;
  }

  // Taps go through columns, then rows; `sign` -1 is for the gradient.
  std::vector<int64_t> offsets(int sign) const {
    std::vector<int64_t> all;
    for (int64_t dy = -reach; dy <= reach; ++dy) {
      for (int64_t dx = -reach; dx <= reach; ++dx) all.push_back(sign * (dy * row_pitch() + dx));
    }
    return all;
  }

  // Calls f(segment length as a constant, place in a dense plane, place in a padded plane) for all
  // pixels.
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

// Adds up many values in as many sums side by side as a segment is long.
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
