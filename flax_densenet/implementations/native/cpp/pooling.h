// Normalization, ReLU and 2x2 average pooling of a channel; an odd last row or column is left out.

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
        d_(planes.width),
        dx_(planes.width) {}

  void forward(Affine<T> norm, const T* x, T* y) {
    for (int64_t image = 0; image < planes_.images; ++image) {
      for (int64_t row = 0; row < rows_; ++row, y += columns_) {
        const T* upper = x + (image * planes_.height + 2 * row) * planes_.width;
        add_rows(norm, upper, upper + planes_.width, sums_.data());
        pool(y);
      }
    }
  }

  // Takes the gradient for y; writes y again, and the gradient for x without the way through the
  // statistics. Adds to the sums that Normalization::gradients is given.
  void gradient(Affine<T> norm, const T* x, const T* of_y, T* y, T* of_x, double& d, double& dx) {
    const int64_t width = planes_.width;
    std::fill(d_.begin(), d_.end(), T(0));
    std::fill(dx_.begin(), dx_.end(), T(0));
    for (int64_t image = 0; image < planes_.images; ++image) {
      for (int64_t row = 0; row < rows_; ++row, y += columns_, of_y += columns_) {
        const int64_t upper = (image * planes_.height + 2 * row) * width, lower = upper + width;
        add_rows(norm, x + upper, x + lower, sums_.data());
        pool(y);
        for (int64_t i = 0; i < columns_; ++i) {
          spread_[2 * i] = spread_[2 * i + 1] = of_y[i] * T(0.25);
        }
        spread(norm, width, x + upper, spread_.data(), of_x + upper, d_.data(), dx_.data());
        spread(norm, width, x + lower, spread_.data(), of_x + lower, d_.data(), dx_.data());
      }
      if (planes_.height % 2 == 1) std::fill_n(of_x + (image + 1) * pixels() - width, width, T(0));
    }
    for (int64_t i = 0; i < width; ++i) d += d_[i], dx += dx_[i];
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

  // An odd last pixel of a row has no share: its place in `share` stays zero.
  static void spread(Affine<T> norm, int64_t width, const T* __restrict x,
                     const T* __restrict share, T* __restrict of_x, T* __restrict d,
                     T* __restrict dx) {
    for (int64_t i = 0; i < width; ++i) {
      const T centered = x[i] - norm.mean, given = share[i];
      const T behind = centered * norm.factor + norm.bias > 0 ? given : T(0);
      d[i] += behind;
      dx[i] += behind * centered;
      of_x[i] = norm.factor * behind;
    }
  }

  Planes planes_;
  int64_t rows_, columns_;
  std::vector<T> sums_, spread_, d_, dx_;
};

}  // namespace densenet
