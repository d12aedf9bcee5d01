// Winograd's minimal filtering F(2x2, 3x3) (https://arxiv.org/abs/1509.09308): a 3x3 convolution with
// 16 products for a tile of 2x2 pixels, where there would be 36.
//
// A tile with the pixels around it, 4x4, becomes 16 numbers, each in a plane of its own, and so does a
// kernel. They are multiplied number by number and added up over channels, and a tile of the result is
// made of the sums. The gradient of a kernel comes from numbers of the maps and of their gradients.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "quarters.h"

namespace densenet {

// The numbers of a tile, or of a kernel.
constexpr int kTileNumbers = 16;

// With fewer tiles in a chunk more is lost on the way to them and back than is saved.
constexpr int64_t kLeastTiles = 64;

template <typename V>
using Four = std::array<V, 4>;

// What a tile reads, in one direction: the paper's B^T.
struct Surroundings {
  template <typename V>
  static Four<V> apply(V before, V first, V second, V behind) {
    return {before - second, first + second, second - first, first - behind};
  }
};

// A tile's own pixels, as the gradient of a kernel wants them: A.
struct OwnPixels {
  template <typename V>
  static Four<V> apply(V, V first, V second, V) {
    return {first, first + second, first - second, -second};
  }
};

// Two pixels of the result: A^T.
template <typename V>
std::array<V, 2> two_pixels(V a, V b, V c, V d) {
  return {a + b + c, b - c - d};
}

// The numbers of a kernel: G g G^T.
template <typename T>
std::array<T, kTileNumbers> numbers_of_kernel(const std::array<T, 9>& taps) {
  const auto g = [](T a, T b, T c) { return Four<T>{a, (a + b + c) / 2, (a - b + c) / 2, c}; };
  std::array<Four<T>, 3> rows;
  for (int i = 0; i < 3; ++i) rows[i] = g(taps[3 * i], taps[3 * i + 1], taps[3 * i + 2]);
  std::array<T, kTileNumbers> numbers;
  for (int n = 0; n < 4; ++n) {
    const auto column = g(rows[0][n], rows[1][n], rows[2][n]);
    for (int m = 0; m < 4; ++m) numbers[4 * m + n] = column[m];
  }
  return numbers;
}

// The gradient for a kernel of that for its numbers: G^T n G.
template <typename T>
std::array<T, 9> kernel_of_numbers(const std::array<T, kTileNumbers>& numbers) {
  const auto g = [](T a, T b, T c, T d) {
    return std::array<T, 3>{a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d};
  };
  std::array<std::array<T, 3>, 4> columns;
  for (int n = 0; n < 4; ++n) {
    columns[n] = g(numbers[n], numbers[4 + n], numbers[8 + n], numbers[12 + n]);
  }
  std::array<T, 9> taps;
  for (int i = 0; i < 3; ++i) {
    const auto row = g(columns[0][i], columns[1][i], columns[2][i], columns[3][i]);
    std::copy(row.begin(), row.end(), taps.begin() + 3 * i);
  }
  return taps;
}

// Which tiles have neighbours to the left and to the right.
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

// Tiles that are multiplied at a time: two vectors, as the product takes them.
template <typename T>
constexpr int64_t kBlock = 2 * kLanes<T>;

template <typename T>
int64_t blocks(const TileGrid& grid) {
  return (grid.span<T>() + kBlock<T> - 1) / kBlock<T>;
}

template <typename T>
int64_t span_of_block(const TileGrid& grid, int64_t block) {
  return std::min(kBlock<T>, grid.span<T>() - block * kBlock<T>);
}

// Numbers of tiles, block by block: all that a product reads lies together.
template <typename T>
class TileBlocks {
 public:
  TileBlocks(int channels, int64_t blocks)
      : channels_(channels),
        memory_(new T[kTileNumbers * channels * blocks * kBlock<T> + kLanes<T>]),
        start_(aligned(memory_.get())) {}

  T* at(int64_t block, int number, int channel) {
    return start_ + ((block * kTileNumbers + number) * channels_ + channel) * kBlock<T>;
  }
  int64_t pitch() const { return channels_ * kBlock<T>; }  // to the next number

 private:
  int channels_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

// Calls f(first lane in the block, first tile) for the vectors of a block.
template <typename T, typename F>
void for_vectors(const TileGrid& grid, int64_t block, F f) {
  for (int64_t i = 0; i < span_of_block<T>(grid, block); i += kLanes<T>) f(i, block * kBlock<T> + i);
}

// Numbers of tiles, in planes.
template <typename T>
class TilePlanes {
 public:
  TilePlanes(const TileGrid& grid, int channels)
      : channels_(channels), pitch_((grid.span<T>() / kLanes<T> | 1) * kLanes<T>),
        memory_(new T[kTileNumbers * channels * pitch_ + kLanes<T>]),
        start_(aligned(memory_.get())) {}

  T* at(int number, int channel) { return start_ + (number * channels_ + channel) * pitch_; }
  int64_t pitch() const { return pitch_; }                     // to the next channel
  int64_t number_pitch() const { return channels_ * pitch_; }  // to the next number

 private:
  int channels_;
  int64_t pitch_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

// Writes the numbers of a vector of tiles from `tile` on, `pitch` apart.
template <typename Transform, typename T>
inline void to_tiles(const Neighbours<T>& neighbours, Quarters<T>& x, int channel, int64_t columns,
                     int64_t tile, T* to, int64_t pitch) {
  const T* rows[4] = {x.odd_rows(channel, 0) - columns, x.even_rows(channel, 0),
                      x.odd_rows(channel, 0), x.even_rows(channel, 0) + columns};
  const int64_t odd_column = x.even_rows(channel, 1) - x.even_rows(channel, 0);
  Four<Vector<T>> across[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const T *even = rows[i] + tile, *odd = even + odd_column;
    across[i] = Transform::apply(neighbours.left(tile, load(odd - 1)), load(even), load(odd),
                                 neighbours.right(tile, load(even + 1)));
  }
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    const auto numbers =
        Transform::apply(across[0][n], across[1][n], across[2][n], across[3][n]);
#pragma GCC unroll 4
    for (int m = 0; m < 4; ++m) store(to + (4 * m + n) * pitch, numbers[m]);
  }
}

// Writes the pixels of a vector of tiles.
template <typename T>
inline void to_quarters(const T* tiles, int64_t pitch, Quarters<T>& y, int channel, int64_t tile) {
  Four<Vector<T>> rows[2];
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    const T* from = tiles + n * pitch;
    const auto two = two_pixels(load(from), load(from + 4 * pitch), load(from + 8 * pitch),
                                load(from + 12 * pitch));
    rows[0][n] = two[0];
    rows[1][n] = two[1];
  }
  const auto even = two_pixels(rows[0][0], rows[0][1], rows[0][2], rows[0][3]);
  const auto odd = two_pixels(rows[1][0], rows[1][1], rows[1][2], rows[1][3]);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    store(y.even_rows(channel, i) + tile, even[i]);
    store(y.odd_rows(channel, i) + tile, odd[i]);
  }
}

}  // namespace densenet
