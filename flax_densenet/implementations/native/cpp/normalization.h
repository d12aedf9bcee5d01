// Batch normalization of channels, and its gradients.

#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace densenet {

template <typename T>
struct Statistics {
  T *mean, *var;

  Statistics after(int64_t channels) const { return {mean + channels, var + channels}; }
};

// A normalization of one channel.
template <typename T>
struct Affine {
  T mean, factor, bias;

  T operator()(T x) const { return (x - mean) * factor + bias; }
};

template <typename T>
T relu(T x) {
  return x <= 0 ? T(0) : x;  // a NaN stays one
}

// y = (x - mean) factor + bias with factor = scale / sqrt(var + epsilon), for each channel.
template <typename T>
struct Normalization {
  std::vector<T> mean, factor, bias, scale, deviation;

  Normalization(int channels, Statistics<T> statistics, const T* scale_, const T* bias_,
                double epsilon)
      : mean(statistics.mean, statistics.mean + channels),
        factor(channels),
        bias(bias_, bias_ + channels),
        scale(scale_, scale_ + channels),
        deviation(channels) {
    for (int c = 0; c < channels; ++c) {
      deviation[c] = std::sqrt(statistics.var[c] + static_cast<T>(epsilon));
      factor[c] = scale[c] / deviation[c];
    }
  }

  Affine<T> operator[](int c) const { return {mean[c], factor[c], bias[c]}; }

  // Writes the gradients of scale and bias and adds to those of the statistics.
  //
  // `grad_sum` is the sum over all pixels of the gradient for y, `grad_dot` of the same times
  // x - mean.
  void gradients(int c, double grad_sum, double grad_dot, T* grad_scale, T* grad_bias,
                 Statistics<T> grad_statistics) const {
    const double sigma = deviation[c];
    grad_bias[c] = grad_sum;
    grad_scale[c] = grad_dot / sigma;
    grad_statistics.mean[c] -= factor[c] * grad_sum;
    grad_statistics.var[c] -= 0.5 * grad_dot * scale[c] / (sigma * sigma * sigma);
  }
};

// What the gradients of a map's statistics add to its own: constant + slope (y - mean).
template <typename T>
struct StatisticsTerm {
  std::vector<T> mean, constant, slope;

  StatisticsTerm(int channels, Statistics<T> statistics, Statistics<T> gradients, int64_t count)
      : mean(statistics.mean, statistics.mean + channels), constant(channels), slope(channels) {
    for (int c = 0; c < channels; ++c) {
      constant[c] = gradients.mean[c] / count;
      slope[c] = 2 * gradients.var[c] / count;
    }
  }
};

}  // namespace densenet
