// What happens to neighbouring pixels in a stage, vector by vector.

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

// What normalization and ReLU give.
template <typename T>
inline Two<T> norm_relu(Affine<T> norm, Two<T> x) {
  return {relu<T>((x[0] - norm.mean) * norm.factor + norm.bias),
          relu<T>((x[1] - norm.mean) * norm.factor + norm.bias)};
}

// The gradient of this, and the sums of which those of its parameters are made.
template <typename T>
class NormReluGradient {
 public:
  explicit NormReluGradient(Affine<T> norm) : norm_(norm) {}

  // Takes x and the gradient dz; returns what the ReLU gave, and adds the gradient for x without
  // the way through the statistics to `of_x`, or replaces it.
  template <int kLength, bool kAdds>
  Two<T> run(const T* x, Two<T> dz, T* of_x) {
    const Two<T> read = load_pixels<kLength>(x);
    Two<T> gradient = kAdds ? load_pixels<kLength>(of_x) : Two<T>{}, z;
    for (int i = 0; i < 2; ++i) {
      const Vector<T> centered = read[i] - norm_.mean;
      const Vector<T> value = centered * norm_.factor + norm_.bias;
      const Vector<T> d = value > 0 ? dz[i] : Vector<T>{};
      z[i] = relu<T>(value);
      d_[i] += d;
      dx_[i] += d * centered;
      gradient[i] += norm_.factor * d;
    }
    store_pixels<kLength>(of_x, gradient);
    return z;
  }

  // Sums of the gradient behind the ReLU, and of the same times x - mean.
  T d() const { return sums_of_lanes<T, 1>(d_)[0] + sums_of_lanes<T, 1>(d_ + 1)[0]; }
  T dx() const { return sums_of_lanes<T, 1>(dx_)[0] + sums_of_lanes<T, 1>(dx_ + 1)[0]; }

 private:
  Affine<T> norm_;
  Vector<T> d_[2] = {}, dx_[2] = {};
};

// The gradient of a map, completed by the way through its statistics if there is one.
template <typename T>
class Complete {
 public:
  Complete(const ThroughStatistics<T>* through, int k, const T* y, const T* dy)
      : through_(through), y_(y), dy_(dy) {
    if (!through) return;
    mean_ = through->mean[k];
    constant_ = through->constant[k];
    slope_ = through->slope[k];
  }

  template <int kLength>
  Two<T> at(int64_t place) const {
    Two<T> dy = load_pixels<kLength>(dy_ + place);
    if (!through_) return dy;
    const Two<T> y = load_pixels<kLength>(y_ + place);
    for (int i = 0; i < 2; ++i) dy[i] += constant_ + slope_ * (y[i] - mean_);
    return dy;
  }

 private:
  const ThroughStatistics<T>* through_;
  const T *y_, *dy_;
  T mean_ = 0, constant_ = 0, slope_ = 0;
};

}  // namespace densenet
