// Sums over pixels that make up the gradients of a stage's parameters.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "stage.h"
#include "winograd.h"

namespace densenet {

template <typename T>
struct Sums {
  std::vector<T> kernel;                   // [inputs, products, outputs]
  std::vector<double> grad_sum, grad_dot;  // [inputs], as Normalization::gradients takes them

  explicit Sums(const Stage<T>& stage)
      : kernel(int64_t{stage.inputs} * stage.products() * stage.outputs),
        grad_sum(stage.inputs),
        grad_dot(stage.inputs) {}

  // Adds another part's sums of an input.
  void add(const Stage<T>& stage, const Sums& other, int c) {
    const int64_t size = int64_t{stage.products()} * stage.outputs;
    grad_sum[c] += other.grad_sum[c];
    grad_dot[c] += other.grad_dot[c];
    T* to = &kernel[c * size];
    const T* more = &other.kernel[c * size];
    for (int64_t i = 0; i < size; ++i) to[i] += more[i];
  }

  // Writes an input's share of the gradient of the kernel [taps, inputs, outputs].
  void write_kernel(const Stage<T>& stage, int c, T* gradient) const {
    const int64_t outputs = stage.outputs, pitch = stage.inputs * outputs;
    const T* from = &kernel[c * stage.products() * outputs];
    T* to = gradient + c * outputs;
    if (!stage.tiled) {
      for (int t = 0; t < stage.taps(); ++t) {
        std::copy_n(from + t * outputs, outputs, to + t * pitch);
      }
      return;
    }
    for (int64_t k = 0; k < outputs; ++k) {
      std::array<T, kTileElements> elements;
      for (int i = 0; i < kTileElements; ++i) elements[i] = from[i * outputs + k];
      const auto taps = kernel_gradient(elements);
      for (int t = 0; t < 9; ++t) to[t * pitch + k] = taps[t];
    }
  }
};

}  // namespace densenet
