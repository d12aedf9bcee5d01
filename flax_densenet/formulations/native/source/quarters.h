// Maps cut into tiles of 2x2 pixels, and the four pixels of a tile in planes of their own.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "pixels.h"
#include "planes.h"

namespace densenet {

// The tiles of a chunk, whose images lie side by side. Where an image has an odd last row or
// column, its last tiles have pixels that are none.
struct TileGrid {
  int64_t images, height, width;  // of the maps, in pixels

  explicit TileGrid(const Planes& planes)
      : images(planes.images), height(planes.height), width(planes.width) {}

  int64_t rows() const { return (height + 1) / 2; }
  int64_t columns_of_image() const { return (width + 1) / 2; }
  int64_t columns() const { return images * columns_of_image(); }
  int64_t tiles() const { return rows() * columns(); }

  // Tiles that are computed, in whole vectors.
  template <typename T>
  int64_t span() const {
    return (tiles() + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  }
};

// Channels of a chunk, each in four planes: pixels with even rows and even columns, with even rows
// and odd columns, with odd rows and even columns, and with both odd.
//
// A plane has a row for each row of tiles and one more, of zeros: behind the even rows, and before
// the odd ones. So what lies above and below a tile is found a row away, everywhere.
template <typename T>
class Quarters {
 public:
  Quarters(const TileGrid& grid, int channels)
      : grid_(grid), columns_(grid.columns()),
        pitch_((((grid.span<T>() + columns_) / kLanes<T> + 3) | 1) * kLanes<T>),
        memory_(new T[pitch_ * 4 * channels + 3 * kLanes<T>]),
        start_(aligned(memory_.get() + kLanes<T>)) {
    const bool has_missing = grid.height % 2 || grid.width % 2;
    std::fill(memory_.get(), start_, T(0));
    for (int plane = 0; plane < 4 * channels; ++plane) {
      T *first = start_ + plane * pitch_, *end = first + pitch_;
      std::fill(first, has_missing ? end : first + columns_, T(0));
      std::fill(first + grid.tiles(), end, T(0));
    }
  }

  // The pixel of tile 0 in these rows and columns, 1 for odd ones; the next tile's is behind it.
  T* even_rows(int channel, int column) { return start_ + (4 * channel + column) * pitch_; }
  T* odd_rows(int channel, int column) {
    return start_ + (4 * channel + 2 + column) * pitch_ + columns_;
  }
  int64_t columns() const { return columns_; }  // to the tile below
  int64_t pitch() const { return pitch_; }      // to the odd columns

  // Pixels at a place that `for_segments` names.
  template <int kLength>
  void write(int64_t place, Two<T> pixels) {
    T* to = start_ + place;
    if constexpr (kLength == 1) {
      *to = pixels[0][0];
    } else {
      const Two<T> both = split<T>(pixels);
      store_part<kLength / 2>(to, both[0]);
      store_part<kLength / 2>(to + pitch_, both[1]);
    }
  }

  template <int kLength>
  Two<T> read(int64_t place) const {
    const T* from = start_ + place;
    if constexpr (kLength == 1) {
      return {Vector<T>{*from}};
    } else {
      return first_pixels<kLength, T>(join<T>({load(from), load(from + pitch_)}));
    }
  }

  // Calls f(segment length as a constant, place in the chunk's plane, place here) for all pixels of
  // a channel. Others of the same grid have the same places.
  template <typename F>
  void for_segments(int channel, F f) {
    if (grid_.width % 2) return cut<1>(channel, f);
    with_segment<2 * kLanes<T>>(grid_.width, [&](auto length) { cut<length()>(channel, f); });
  }

 private:
  template <int kLength, typename F>
  void cut(int channel, F f) {
    const std::integral_constant<int, kLength> length;
    for (int64_t image = 0, dense = 0; image < grid_.images; ++image) {
      for (int64_t y = 0; y < grid_.height; ++y) {
        const T* rows = y % 2 ? odd_rows(channel, 0) : even_rows(channel, 0);
        const T* row = rows + y / 2 * columns_ + image * grid_.columns_of_image();
        for (int64_t x = 0; x < grid_.width; x += length(), dense += length()) {
          f(length, dense, row - start_ + x / 2 + x % 2 * pitch_);
        }
      }
    }
  }

  TileGrid grid_;
  int64_t columns_, pitch_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

}  // namespace densenet
