// Normalization, ReLU and their gradients, vector by vector.

#pragma once

#include <cstdint>

#include "lane_sums.h"
#include "normalization.h"
#include "pixels.h"

namespace densenet {

template <typename T>
inline Vector<T> relu(Vector<T> v) {
  return v <= 0 ? Vector<T>{} : v;  // a NaN stays one
}

template <typename T>
inline VectorPair<T> norm_relu(Affine<T> norm, VectorPair<T> x) {
  return {relu<T>((x[0] - norm.mean) * norm.factor + norm.bias),
          relu<T>((x[1] - norm.mean) * norm.factor + norm.bias)};
}

// The gradients of `norm_relu`.
template <typename T>
class NormReluGradient {
 public:
  explicit NormReluGradient(Affine<T> norm) : norm_(norm) {}

  // Reads x and the gradient for z = norm_relu(x); returns z. Writes or adds the gradient for x at
  // fixed statistics.
  template <int kLength, WriteMode kMode>
  VectorPair<T> run(const T* x, VectorPair<T> grad_z, T* grad_x) {
    const VectorPair<T> read = load_pixels<kLength>(x);
    VectorPair<T> gradient =
                      kMode == WriteMode::kAdd ? load_pixels<kLength>(grad_x) : VectorPair<T>{},
                  z;
    for (int i = 0; i < 2; ++i) {
      const Vector<T> centered = read[i] - norm_.mean;
      const Vector<T> value = centered * norm_.factor + norm_.bias;
      const Vector<T> grad = value > 0 ? grad_z[i] : Vector<T>{};
      z[i] = relu<T>(value);
      grad_sum_[i] += grad;
      grad_dot_[i] += grad * centered;
      gradient[i] += norm_.factor * grad;
    }
    store_pixels<kLength>(grad_x, gradient);
    return z;
  }

  // The sums that Normalization::gradients takes.
  T grad_sum() const {
    return sums_of_lanes<T, 1>(grad_sum_)[0] + sums_of_lanes<T, 1>(grad_sum_ + 1)[0];
  }
  T grad_dot() const {
    return sums_of_lanes<T, 1>(grad_dot_)[0] + sums_of_lanes<T, 1>(grad_dot_ + 1)[0];
  }

 private:
  Affine<T> norm_;
  Vector<T> grad_sum_[2] = {}, grad_dot_[2] = {};
};

// The gradient for a stage's output y, which a term completes if there is one.
template <typename T>
class OutputGradient {
 public:
  OutputGradient(const StatisticsTerm<T>* term, int k, const T* y, const T* grad_y)
      : term_(term), y_(y), grad_y_(grad_y) {
    if (!term) return;
    mean_ = term->mean[k];
    constant_ = term->constant[k];
    slope_ = term->slope[k];
  }

  template <int kLength>
  VectorPair<T> at(int64_t place) const {
    VectorPair<T> grad_y = load_pixels<kLength>(grad_y_ + place);
    if (!term_) return grad_y;
    const VectorPair<T> y = load_pixels<kLength>(y_ + place);
    for (int i = 0; i < 2; ++i) grad_y[i] += constant_ + slope_ * (y[i] - mean_);
    return grad_y;
  }

 private:
  const StatisticsTerm<T>* term_;
  const T *y_, *grad_y_;
  T mean_ = 0, constant_ = 0, slope_ = 0;
};

}  // namespace densenet
