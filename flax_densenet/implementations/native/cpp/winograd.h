// Winograd's minimal filtering F(2x2, 3x3) (https://arxiv.org/abs/1509.09308): a 3x3 convolution
// with 16 products for a tile of 2x2 pixels, where there would be 36.
//
// A tile with the pixels around it, 4x4, becomes 16 numbers, and so does a kernel. They are
// multiplied number by number and added up over channels, and a tile of the result is made of the
// sums. The gradient for a kernel is made of numbers of the maps and of their gradients.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

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

// The numbers of kWidth kernels side by side, [16, kWidth] of taps [9, kWidth]: G g G^T.
template <int kWidth, typename T>
void numbers_of_kernels(const T (*taps)[kWidth], T (*numbers)[kWidth]) {
  T across[3][4][kWidth];
  const auto transform = [](const T* a, const T* b, const T* c, T* const(&to)[4]) {
    for (int m = 0; m < kWidth; ++m) {
      to[0][m] = a[m];
      to[1][m] = (a[m] + b[m] + c[m]) / 2;
      to[2][m] = (a[m] - b[m] + c[m]) / 2;
      to[3][m] = c[m];
    }
  };
  for (int i = 0; i < 3; ++i) {
    transform(taps[3 * i], taps[3 * i + 1], taps[3 * i + 2],
              {across[i][0], across[i][1], across[i][2], across[i][3]});
  }
  for (int n = 0; n < 4; ++n) {
    transform(across[0][n], across[1][n], across[2][n],
              {numbers[n], numbers[4 + n], numbers[8 + n], numbers[12 + n]});
  }
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

}  // namespace densenet
