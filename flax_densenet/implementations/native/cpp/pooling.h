// Normalization, ReLU and 2x2 average pooling of a channel.
//
// An odd last row or column is left out.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "normalization.h"
#include "planes.h"

namespace densenet {

template <typename T>
class Pooling {
 public:
  explicit Pooling(const Planes& planes)
      : planes_(planes),
        rows_(planes.height / 2),
        columns_(planes.width / 2),
        sums_(planes.width),
        spread_(planes.width),
        grad_sum_(planes.width),
        grad_dot_(planes.width) {}

  void forward(Affine<T> norm, const T* x, T* y) {
    for (int64_t image = 0; image < planes_.images; ++image) {
      for (int64_t row = 0; row < rows_; ++row, y += columns_) {
        const T* upper = x + (image * planes_.height + 2 * row) * planes_.width;
        add_rows(norm, upper, upper + planes_.width, sums_.data());
        pool(y);
      }
    }
  }

  // Reads x and the gradient for y; writes y, and the gradient for x at fixed statistics. Adds to
  // the sums that Normalization::gradients takes.
  void gradient(Affine<T> norm, const T* x, const T* grad_y, T* y, T* grad_x, double& grad_sum,
                double& grad_dot) {
    const int64_t width = planes_.width;
    std::fill(grad_sum_.begin(), grad_sum_.end(), T(0));
    std::fill(grad_dot_.begin(), grad_dot_.end(), T(0));
    for (int64_t image = 0; image < planes_.images; ++image) {
      for (int64_t row = 0; row < rows_; ++row, y += columns_, grad_y += columns_) {
        const int64_t upper = (image * planes_.height + 2 * row) * width, lower = upper + width;
        add_rows(norm, x + upper, x + lower, sums_.data());
        pool(y);
        for (int64_t i = 0; i < columns_; ++i) {
          spread_[2 * i] = spread_[2 * i + 1] = grad_y[i] * T(0.25);
        }
        spread(norm, width, x + upper, spread_.data(), grad_x + upper, grad_sum_.data(),
               grad_dot_.data());
        spread(norm, width, x + lower, spread_.data(), grad_x + lower, grad_sum_.data(),
               grad_dot_.data());
      }
      if (planes_.height % 2 == 1)
        std::fill_n(grad_x + (image + 1) * pixels() - width, width, T(0));
    }
    for (int64_t i = 0; i < width; ++i) grad_sum += grad_sum_[i], grad_dot += grad_dot_[i];
  }

 private:
  int64_t pixels() const { return planes_.height * planes_.width; }

  void add_rows(Affine<T> norm, const T* upper, const T* lower, T* __restrict sums) {
    for (int64_t i = 0; i < planes_.width; ++i) {
      sums[i] = relu(norm(upper[i])) + relu(norm(lower[i]));
    }
  }

  void pool(T* y) {
    for (int64_t i = 0; i < columns_; ++i) y[i] = (sums_[2 * i] + sums_[2 * i + 1]) * T(0.25);
  }

  // An odd last pixel of a row has no share in the result: its place in `share` stays zero.
  static void spread(Affine<T> norm, int64_t width, const T* __restrict x,
                     const T* __restrict share, T* __restrict grad_x, T* __restrict grad_sum,
                     T* __restrict grad_dot) {
    for (int64_t i = 0; i < width; ++i) {
      const T centered = x[i] - norm.mean, given = share[i];
      const T grad = centered * norm.factor + norm.bias > 0 ? given : T(0);
      grad_sum[i] += grad;
      grad_dot[i] += grad * centered;
      grad_x[i] = norm.factor * grad;
    }
  }

  Planes planes_;
  int64_t rows_, columns_;
  std::vector<T> sums_, spread_, grad_sum_, grad_dot_;
};

}  // namespace densenet
