// One normalization, ReLU and convolution of a dense layer on one chunk, and its gradient.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "planes.h"

namespace densenet {

// y = (x - mean) factor + bias with factor = scale / sqrt(var + epsilon), for each channel.
template <typename T>
struct Normalization {
  std::vector<T> mean, factor, bias, scale, deviation;

  Normalization(int channels, const T* mean_, const T* var, const T* scale_, const T* bias_,
                double epsilon)
      : mean(mean_, mean_ + channels), factor(channels), bias(bias_, bias_ + channels),
        scale(scale_, scale_ + channels), deviation(channels) {
    for (int c = 0; c < channels; ++c) {
      deviation[c] = std::sqrt(var[c] + static_cast<T>(epsilon));
      factor[c] = scale[c] / deviation[c];
    }
  }
};

template <typename T>
struct Stage {
  Planes planes;
  int inputs, outputs;
  const T* kernel;  // [taps, inputs, outputs]
  Normalization<T> norm;
  std::vector<int64_t> offsets, back_offsets;
  std::vector<T> weights, back_weights;  // in the order in which `convolve` reads them

  Stage(Planes planes_, int inputs_, int outputs_, const T* kernel_, Normalization<T> norm_)
      : planes(planes_), inputs(inputs_), outputs(outputs_), kernel(kernel_),
        norm(std::move(norm_)), offsets(planes.offsets(1)), back_offsets(planes.offsets(-1)) {}

  int taps() const { return offsets.size(); }

  void pack_forward() {
    pack(weights, outputs, inputs,
         [&](int t, int in, int out) { return kernel[(t * int64_t{inputs} + in) * outputs + out]; });
  }

  void pack_backward() {
    pack(back_weights, inputs, outputs,
         [&](int t, int in, int out) { return kernel[(t * int64_t{inputs} + out) * outputs + in]; });
  }

 private:
  template <typename F>
  void pack(std::vector<T>& packed, int outs, int ins, F value) {
    packed.reserve(int64_t{outs} * ins * taps());
    for (int first = 0; first < outs; first += kTileChannels) {
      const int size = std::min(kTileChannels, outs - first);
      for (int in = 0; in < ins; ++in) {
        for (int t = 0; t < taps(); ++t) {
          for (int m = 0; m < size; ++m) packed.push_back(value(t, in, first + m));
        }
      }
    }
  }
};

// Padded planes, whose padding is zero.
template <typename T>
class Scratch {
 public:
  Scratch(const Planes& planes, int channels)
      : pitch_(planes.pitch<T>()), memory_(pitch_ * channels + planes.guard(), T(0)),
        start_(memory_.data() + planes.guard()) {}
  T* operator[](int channel) { return start_ + channel * pitch_; }
  int64_t pitch() const { return pitch_; }

 private:
  int64_t pitch_;
  std::vector<T> memory_;
  T* start_;
};

// Input channels that are normalized at a time: their padded planes fit a core's second cache.
constexpr int kForwardChannels = 32;

// What one thread needs to compute chunks of a stage forward.
template <typename T>
class Forward {
 public:
  explicit Forward(const Stage<T>& stage)
      : stage_(stage), span_(stage.planes.template span<T>()),
        x_(stage.planes, std::min(kForwardChannels, stage.inputs)),
        y_(stage.planes, stage.outputs) {}

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const T* source, T* target) {
    const int64_t pixels = stage_.planes.pixels();
    const int taps = stage_.taps();
    for (int first = 0; first < stage_.inputs; first += kForwardChannels) {
      const int size = std::min(kForwardChannels, stage_.inputs - first);
      for (int c = 0; c < size; ++c) normalize(first + c, source + (first + c) * pixels, x_[c]);
      for (int out = 0; out < stage_.outputs; out += kTileChannels) {
        const int outs = std::min(kTileChannels, stage_.outputs - out);
        const T* weights = stage_.weights.data() +
                           (int64_t{out} * stage_.inputs + int64_t{first} * outs) * taps;
        convolve(x_[0], x_.pitch(), size, stage_.offsets, weights, y_[out], y_.pitch(), outs,
                 span_, first > 0);
      }
    }
    for (int k = 0; k < stage_.outputs; ++k) {
      const T* from = y_[k];
      T* to = target + k * pixels;
      stage_.planes.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
        for (int i = 0; i < length(); ++i) to[dense + i] = from[padded + i];
      });
    }
  }

 private:
  void normalize(int c, const T* x, T* y) {
    const T mean = stage_.norm.mean[c], factor = stage_.norm.factor[c], bias = stage_.norm.bias[c];
    stage_.planes.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
      for (int i = 0; i < length(); ++i) {
        const T z = (x[dense + i] - mean) * factor + bias;
        y[padded + i] = z <= 0 ? T(0) : z;  // a NaN stays one
      }
    });
  }

  const Stage<T>& stage_;
  int64_t span_;
  Scratch<T> x_, y_;
};

// Sums over pixels of what the gradients of a stage need.
template <typename T>
struct Sums {
  std::vector<T> kernel;      // [inputs, taps, outputs]
  std::vector<double> d, dx;  // [inputs]: gradient behind the ReLU; the same times x - mean

  explicit Sums(const Stage<T>& stage)
      : kernel(int64_t{stage.inputs} * stage.taps() * stage.outputs), d(stage.inputs),
        dx(stage.inputs) {}

  void add(const Sums& other) {
    for (size_t i = 0; i < kernel.size(); ++i) kernel[i] += other.kernel[i];
    for (size_t i = 0; i < d.size(); ++i) d[i] += other.d[i], dx[i] += other.dx[i];
  }
};

// A gradient plus what the gradients of the statistics add: dy + constant + slope (y - mean).
template <typename T>
struct ThroughStatistics {
  std::vector<T> mean, constant, slope;

  ThroughStatistics(int channels, const T* mean_, const T* of_mean, const T* of_var, int64_t count)
      : mean(mean_, mean_ + channels), constant(channels), slope(channels) {
    for (int c = 0; c < channels; ++c) {
      constant[c] = of_mean[c] / count;
      slope[c] = 2 * of_var[c] / count;
    }
  }
};

// What one thread needs to compute the gradients of chunks of a stage.
template <typename T>
class Backward {
 public:
  Backward(const Stage<T>& stage, const ThroughStatistics<T>& through, Sums<T>& sums)
      : stage_(stage), through_(through), sums_(sums), span_(stage.planes.template span<T>()),
        dy_(stage.planes, stage.outputs), dz_(stage.planes, kTileChannels),
        z_(stage.planes, kTileChannels) {}

  // Reads source [inputs, pixels], target and of_target [outputs, pixels]; adds to of_source, or
  // replaces it.
  void run(const T* source, const T* target, const T* of_target, T* of_source, bool adds) {
    const int64_t pixels = stage_.planes.pixels();
    const int taps = stage_.taps();
    for (int k = 0; k < stage_.outputs; ++k) {
      complete(k, target + k * pixels, of_target + k * pixels, dy_[k]);
    }
    for (int first = 0; first < stage_.inputs; first += kTileChannels) {
      const int size = std::min(kTileChannels, stage_.inputs - first);
      const T* weights = stage_.back_weights.data() + int64_t{first} * stage_.outputs * taps;
      convolve(dy_[0], dy_.pitch(), stage_.outputs, stage_.back_offsets, weights, dz_[0],
               dz_.pitch(), size, span_, false);
      rows_.clear();
      for (int c = 0; c < size; ++c) {
        const T* x = source + (first + c) * pixels;
        T* of_x = of_source + (first + c) * pixels;
        adds ? normalize<true>(first + c, x, dz_[c], z_[c], of_x)
             : normalize<false>(first + c, x, dz_[c], z_[c], of_x);
        for (int t = 0; t < taps; ++t) rows_.push_back(z_[c] + stage_.offsets[t]);
      }
      correlate(rows_, dy_[0], dy_.pitch(), stage_.outputs, span_,
                sums_.kernel.data() + int64_t{first} * taps * stage_.outputs, stage_.outputs);
    }
  }

 private:
  void complete(int k, const T* y, const T* dy, T* to) {
    const T mean = through_.mean[k], constant = through_.constant[k], slope = through_.slope[k];
    stage_.planes.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
      for (int i = 0; i < length(); ++i) {
        to[padded + i] = dy[dense + i] + (constant + slope * (y[dense + i] - mean));
      }
    });
  }

  template <bool kAdds>
  void normalize(int c, const T* x, const T* dz, T* z, T* of_x) {
    const T mean = stage_.norm.mean[c], factor = stage_.norm.factor[c], bias = stage_.norm.bias[c];
    SegmentSum<T> sum_d, sum_dx;
    stage_.planes.for_segments([&](auto length, int64_t dense, int64_t padded) {
      segment<kAdds, length()>(mean, factor, bias, x + dense, dz + padded, z + padded,
                               of_x + dense, sum_d.lanes, sum_dx.lanes);
    });
    sums_.d[c] += sum_d.total();
    sums_.dx[c] += sum_dx.total();
  }

  // A function of its own, whose arguments are known not to overlap: or nothing is vectorized.
  template <bool kAdds, int kLength>
  static void segment(T mean, T factor, T bias, const T* __restrict x, const T* __restrict dz,
                      T* __restrict z, T* __restrict of_x, T* __restrict sum_d,
                      T* __restrict sum_dx) {
    for (int i = 0; i < kLength; ++i) {
      const T given = dz[i], before = kAdds ? of_x[i] : T(0);
      const T centered = x[i] - mean;
      const T value = centered * factor + bias;
      const T d = value > 0 ? given : T(0);
      z[i] = value <= 0 ? T(0) : value;
      sum_d[i] += d;
      sum_dx[i] += d * centered;
      of_x[i] = before + factor * d;
    }
  }

  const Stage<T>& stage_;
  const ThroughStatistics<T>& through_;
  Sums<T>& sums_;
  int64_t span_;
  Scratch<T> dy_, dz_, z_;
  std::vector<const T*> rows_;
};

}  // namespace densenet
