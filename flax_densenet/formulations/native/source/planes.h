// Planes: the pixels of one channel in a chunk of images, dense in memory, padded while multiplied.
//
// A padded plane has `reach` zeros behind each row and `reach` rows of zeros behind each image, which
// serve as the margin of what follows, too, and a guard of zeros at both ends. Each tap of a
// convolution is then one offset, the same for all pixels.

#pragma once

#include <cstdint>
#include <vector>

#include "products.h"

namespace densenet {

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
  // pixels. Loops over a constant number of pixels become vector instructions without a remainder.
  template <typename F>
  void for_segments(F f) const {
    if (reach == 0) return for_rows(1, 1, pixels(), f);
    for_rows(images, height, width, f);
  }

 private:
  template <typename F>
  void for_rows(int64_t images, int64_t rows, int64_t width, F f) const {
    if (width % 32 == 0) return cut<32>(images, rows, width, f);
    if (width % 28 == 0) return cut<28>(images, rows, width, f);
    if (width % 16 == 0) return cut<16>(images, rows, width, f);
    if (width % 14 == 0) return cut<14>(images, rows, width, f);
    if (width % 8 == 0) return cut<8>(images, rows, width, f);
    if (width % 7 == 0) return cut<7>(images, rows, width, f);
    if (width % 4 == 0) return cut<4>(images, rows, width, f);
    return cut<1>(images, rows, width, f);
  }

  template <int kLength, typename F>
  void cut(int64_t images, int64_t rows, int64_t width, F f) const {
    const std::integral_constant<int, kLength> length;
    for (int64_t image = 0, dense = 0; image < images; ++image) {
      for (int64_t y = 0; y < rows; ++y) {
        const int64_t start = row(image, y);
        for (int64_t x = 0; x < width; x += kLength, dense += kLength) f(length, dense, start + x);
      }
    }
  }
};

constexpr int kMaxSegment = 32;

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
