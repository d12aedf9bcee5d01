// Maps cut into tiles of 2x2 pixels, in polyphase form: each pixel of a tile has its own plane.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "pixels.h"
#include "planes.h"

namespace densenet {

// The tiles of a chunk, or of a strip of its rows. Images lie side by side. In an image with an odd
// last row or column, the last tiles reach beyond it.
struct TileGrid {
  int64_t images, height, width;  // of the maps, in pixels

  TileGrid(int64_t images_, int64_t height_, int64_t width_)
      : images(images_), height(height_), width(width_) {}
  explicit TileGrid(const Planes& planes) : TileGrid(planes.images, planes.height, planes.width) {}

  // Returns at most this many rows of pixels from `start` on.
  TileGrid strip(int64_t start, int64_t most) const {
    return {images, std::min(most, height - start), width};
  }

  int64_t rows() const { return (height + 1) / 2; }
  int64_t columns_of_image() const { return (width + 1) / 2; }
  int64_t columns() const { return images * columns_of_image(); }
  int64_t tiles() const { return rows() * columns(); }

  // The number of tiles that are computed, in whole vectors.
  template <typename T>
  int64_t span() const {
    return (tiles() + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  }
};

// Channels of a chunk, each in four planes: even rows and even columns, even rows and odd columns,
// odd rows and even columns, odd rows and odd columns.
//
// A plane has a row for each row of tiles and one more, of zeros: after the even rows, and before
// the odd ones. What is above and below a tile is always a row away.
template <typename T>
class PolyphasePlanes {
 public:
  PolyphasePlanes(const TileGrid& grid, int channels)
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

  // Returns the pixel of tile 0; `column` is 1 for odd columns. The next tile's pixel follows it.
  T* even_rows(int channel, int column) { return start_ + (4 * channel + column) * pitch_; }
  T* odd_rows(int channel, int column) {
    return start_ + (4 * channel + 2 + column) * pitch_ + columns_;
  }
  int64_t columns() const { return columns_; }  // to the tile below
  int64_t pitch() const { return pitch_; }      // to the odd columns

  // Writes pixels to a place from `for_segments`.
  template <int kLength>
  void write(int64_t place, VectorPair<T> pixels) {
    T* to = start_ + place;
    if constexpr (kLength == 1) {
      *to = pixels[0][0];
    } else {
      const VectorPair<T> both = split<T>(pixels);
      store_part<kLength / 2>(to, both[0]);
      store_part<kLength / 2>(to + pitch_, both[1]);
    }
  }

  template <int kLength>
  VectorPair<T> read(int64_t place) const {
    const T* from = start_ + place;
    if constexpr (kLength == 1) {
      return {Vector<T>{*from}};
    } else {
      return first_pixels<kLength, T>(join<T>({load(from), load(from + pitch_)}));
    }
  }

  // Calls f(length as a constant, place in the chunk's plane, place here) for all segments of a
  // channel. Objects with the same grid have the same places.
  template <typename F>
  DENSENET_INLINE void for_segments(int channel, F f) {
    for_segments(channel, grid_.height, 0, f);
  }

  // The same for a strip that begins with row `start` of maps so high.
  template <typename F>
  DENSENET_INLINE void for_segments(int channel, int64_t height, int64_t start, F f) {
    for_rows(channel, height, start, start, start + 2 * grid_.rows(), f);
  }

  // The same for a strip and one row more on both sides; rows outside of the maps become zero.
  template <typename F>
  DENSENET_INLINE void for_surroundings(int channel, int64_t height, int64_t start, F f) {
    const int64_t first = start - 1, end = start + 2 * grid_.rows() + 1;
    if (grid_.height < height) {  // otherwise they are zero from the beginning
      if (first < 0) clear(channel, first - start);
      for (int64_t y = height; y < end; ++y) clear(channel, y - start);
    }
    for_rows(channel, height, start, first, end, f);
  }

 private:
  // Returns a row of pixels; the first of a strip is 0.
  T* row(int channel, int column, int64_t y) {
    return (y & 1 ? odd_rows(channel, column) : even_rows(channel, column)) + (y >> 1) * columns_;
  }

  void clear(int channel, int64_t y) {
    for (int column = 0; column < 2; ++column) std::fill_n(row(channel, column, y), columns_, T(0));
  }

  // Goes through rows [first, end) that are in [0, height); `start` is the first row in memory.
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
