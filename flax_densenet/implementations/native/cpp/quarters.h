// Maps cut into tiles of 2x2 pixels, and the four pixels of a tile in planes of their own.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "pixels.h"
#include "planes.h"

namespace densenet {

// The tiles of a chunk, or of a strip of its rows. Images lie side by side. Where an image has an
// odd last row or column, its last tiles have pixels that are none.
struct TileGrid {
  int64_t images, height, width;  // of the maps, in pixels

  TileGrid(int64_t images_, int64_t height_, int64_t width_)
      : images(images_), height(height_), width(width_) {}
  explicit TileGrid(const Planes& planes) : TileGrid(planes.images, planes.height, planes.width) {}

  // At most so many rows of pixels from `start` on.
  TileGrid strip(int64_t start, int64_t most) const {
    return {images, std::min(most, height - start), width};
  }

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
      : grid_(grid),
        columns_(grid.columns()),
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
  DENSENET_INLINE void for_segments(int channel, F f) {
    for_segments(channel, grid_.height, 0, f);
  }

  // The same for a strip that begins with row `start` of maps so high.
  template <typename F>
  DENSENET_INLINE void for_segments(int channel, int64_t height, int64_t start, F f) {
    for_rows(channel, height, start, start, start + 2 * grid_.rows(), f);
  }

  // The same for a strip and one row more on both sides; what is no row of the maps becomes zero.
  template <typename F>
  DENSENET_INLINE void for_surroundings(int channel, int64_t height, int64_t start, F f) {
    const int64_t first = start - 1, end = start + 2 * grid_.rows() + 1;
    if (grid_.height < height) {  // or they are zero from the beginning
      if (first < 0) clear(channel, first - start);
      for (int64_t y = height; y < end; ++y) clear(channel, y - start);
    }
    for_rows(channel, height, start, first, end, f);
  }

 private:
  // A row of pixels, the first of a strip being 0.
  T* row(int channel, int column, int64_t y) {
    return (y & 1 ? odd_rows(channel, column) : even_rows(channel, column)) + (y >> 1) * columns_;
  }

  void clear(int channel, int64_t y) {
    for (int column = 0; column < 2; ++column) std::fill_n(row(channel, column, y), columns_, T(0));
  }

  // Rows [first, end) of those in [0, height), where `start` is the first row of memory.
  template <typename F>
  DENSENET_INLINE void for_rows(int channel, int64_t height, int64_t start, int64_t first,
                                int64_t end, F f) {
    first = std::max<int64_t>(first, 0);
    end = std::min(end, height);
    if (grid_.width % 2) return cut<1>(channel, height, start, first, end, f);
    with_segment<2 * kLanes<T>>(grid_.width, [&](auto length) DENSENET_INLINE {
      cut<length()>(channel, height, start, first, end, f);
    });
  }

  template <int kLength, typename F>
  DENSENET_INLINE void cut(int channel, int64_t height, int64_t start, int64_t first, int64_t end,
                           F f) {
    const std::integral_constant<int, kLength> length;
    const int64_t even = even_rows(channel, 0) - start_, odd = odd_rows(channel, 0) - start_;
    const int64_t width = grid_.width, columns = columns_, pitch = pitch_;
    for (int64_t image = 0; image < grid_.images; ++image) {
      int64_t dense = (image * height + first) * width;
      const int64_t column = image * grid_.columns_of_image();
      for (int64_t y = first; y < end; ++y) {
        const int64_t here = (y & 1 ? odd : even) + ((y - start) >> 1) * columns + column;
        for (int64_t x = 0; x < width; x += length(), dense += length()) {
          f(length, dense, here + x / 2 + x % 2 * pitch);
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
