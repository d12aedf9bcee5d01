// Transforms the pixels of tiles (winograd.h), and back.

#pragma once

#include <cstdint>
#include <vector>

#include "polyphase.h"
#include "tile_memory.h"
#include "winograd.h"

namespace densenet {

// Zeroes what is left or right of the maps: some tiles have no neighbour there.
template <typename T>
class Neighbours {
 public:
  explicit Neighbours(const TileGrid& grid)
      : left_(grid.span<T>(), T(1)), right_(grid.span<T>(), T(1)) {
    const int64_t columns = grid.columns_of_image();
    for (int64_t tile = 0; tile < grid.tiles(); tile += columns) {
      left_[tile] = right_[tile + columns - 1] = 0;
    }
  }

  Vector<T> left(int64_t tile, Vector<T> v) const { return where(load(&left_[tile]), v); }
  Vector<T> right(int64_t tile, Vector<T> v) const { return where(load(&right_[tile]), v); }

 private:
  static Vector<T> where(Vector<T> exists, Vector<T> v) { return exists != 0 ? v : Vector<T>{}; }

  std::vector<T> left_, right_;
};

// Writes the elements of a vector of tiles from `tile` on, `pitch` apart.
template <typename Transform, typename T>
inline void transform_tiles(const Neighbours<T>& neighbours, PolyphasePlanes<T>& x, int channel,
                            int64_t tile, T* to, int64_t pitch) {
  const T* rows[4] = {x.odd_rows(channel, 0) - x.columns(), x.even_rows(channel, 0),
                      x.odd_rows(channel, 0), x.even_rows(channel, 0) + x.columns()};
  TileRow<Vector<T>> across[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const T *even = rows[i] + tile, *odd = even + x.pitch();
    across[i] = Transform::apply(neighbours.left(tile, load(odd - 1)), load(even), load(odd),
                                 neighbours.right(tile, load(even + 1)));
  }
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    const auto elements = Transform::apply(across[0][n], across[1][n], across[2][n], across[3][n]);
#pragma GCC unroll 4
    for (int m = 0; m < 4; ++m) store(to + (4 * m + n) * pitch, elements[m]);
  }
}

// Writes the pixels of a vector of tiles, given their elements.
template <typename T>
inline void write_pixels(const T* tiles, int64_t pitch, PolyphasePlanes<T>& y, int channel,
                         int64_t tile) {
  TileRow<Vector<T>> rows[2];
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    const T* from = tiles + n * pitch;
    const auto two = output_transform(load(from), load(from + 4 * pitch), load(from + 8 * pitch),
                                      load(from + 12 * pitch));
    rows[0][n] = two[0];
    rows[1][n] = two[1];
  }
  const auto even = output_transform(rows[0][0], rows[0][1], rows[0][2], rows[0][3]);
  const auto odd = output_transform(rows[1][0], rows[1][1], rows[1][2], rows[1][3]);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    store(y.even_rows(channel, i) + tile, even[i]);
    store(y.odd_rows(channel, i) + tile, odd[i]);
  }
}

}  // namespace densenet
