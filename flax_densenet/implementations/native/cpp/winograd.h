// Winograd's minimal filtering F(2x2, 3x3) (https://arxiv.org/abs/1509.09308): a 3x3 convolution
// with 16 products for a tile of 2x2 pixels instead of 36.
//
// A tile with the pixels around it, 4x4, is transformed to 16 elements, and so is a kernel. They
// are multiplied element by element and added up over channels. The transform of the sums is a tile
// of the result. The gradient for a kernel comes from transformed maps and gradients in the same
// way.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace densenet {

// Elements of a transformed tile or kernel.
constexpr int kTileElements = 16;

// With fewer tiles in a chunk, the transforms take more time than they save.
constexpr int64_t kLeastTiles = 64;

// Four values in a row or column of a tile.
template <typename V>
using TileRow = std::array<V, 4>;

// Transforms the pixels of a tile and around it, in one direction: the paper's B^T.
struct InputTransform {
  template <typename V>
  static TileRow<V> apply(V before, V first, V second, V after) {
    return {before - second, first + second, second - first, first - after};
  }
};

// Transforms a tile's own pixels for the gradient of a kernel: A.
struct GradientTransform {
  template <typename V>
  static TileRow<V> apply(V, V first, V second, V) {
    return {first, first + second, first - second, -second};
  }
};

// Returns two pixels of the result: A^T.
template <typename V>
std::array<V, 2> output_transform(V a, V b, V c, V d) {
  return {a + b + c, b - c - d};
}

// Transforms kWidth kernels side by side, taps [9, kWidth] to elements [16, kWidth]: G g G^T.
template <int kWidth, typename T>
void transform_kernels(const T (*taps)[kWidth], T (*elements)[kWidth]) {
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
              {elements[n], elements[4 + n], elements[8 + n], elements[12 + n]});
  }
}

// Returns the gradient for a kernel, given that for its elements: G^T e G.
template <typename T>
std::array<T, 9> kernel_gradient(const std::array<T, kTileElements>& elements) {
  const auto g = [](T a, T b, T c, T d) {
    return std::array<T, 3>{a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d};
  };
  std::array<std::array<T, 3>, 4> columns;
  for (int n = 0; n < 4; ++n) {
    columns[n] = g(elements[n], elements[4 + n], elements[8 + n], elements[12 + n]);
  }
  std::array<T, 9> taps;
  for (int i = 0; i < 3; ++i) {
    const auto row = g(columns[0][i], columns[1][i], columns[2][i], columns[3][i]);
    std::copy(row.begin(), row.end(), taps.begin() + 3 * i);
  }
  return taps;
}

}  // namespace densenet
