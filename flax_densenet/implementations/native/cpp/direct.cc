#include "direct.h"

#include <algorithm>

#include "segments.h"

namespace densenet {

template <typename T>
void DirectForward<T>::run(const Stage<T>& stage, const T* source, T* target) {
  const int64_t pixels = stage.planes.pixels();
  for (int first = 0; first < stage.inputs; first += channels_) {
    const int size = std::min(channels_, stage.inputs - first);
    for (int c = 0; c < size; ++c) {
      const T* x = source + (first + c) * pixels;
      const Affine<T> norm = stage.norm[first + c];
      T* z = x_[c];
      stage.planes.template for_segments<2 * kLanes<T>>(
          [=](auto length, int64_t dense, int64_t padded) {
            store_pixels<length()>(z + padded, norm_relu(norm, load_pixels<length()>(x + dense)));
          });
    }
    for (int out = 0; out < stage.outputs; out += kRegisterChannels) {
      const int outs = std::min(kRegisterChannels, stage.outputs - out);
      const T* weights = stage.weights.get() +
                         (int64_t{out} * stage.inputs + int64_t{first} * outs) * stage.taps();
      convolve({x_[0], x_.pitch(), 1}, size, stage.offsets, weights,
               int64_t{outs} * stage.inputs * stage.taps(), y_[out], y_.pitch(), outs, span_,
               add_if(first > 0));
    }
  }
  for (int k = 0; k < stage.outputs; ++k) {
    const T* from = y_[k];
    T* to = target + k * pixels;
    stage.planes.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
      for (int i = 0; i < length(); ++i) to[dense + i] = from[padded + i];
    });
  }
}

template <typename T>
void DirectBackward<T>::run(const T* source, const T* target, const T* grad_target, T* grad_source,
                            WriteMode mode) {
  const int64_t read_pixels = stage_.read.pixels(), pixels = stage_.planes.pixels();
  const int taps = stage_.taps();
  for (int k = 0; k < stage_.outputs; ++k) {
    const OutputGradient<T> grad_y(term_, k, target + k * pixels, grad_target + k * pixels);
    T* to = grad_y_[k];
    stage_.planes.template for_segments<2 * kLanes<T>>(
        [&](auto length, int64_t dense, int64_t padded) {
          store_pixels<length()>(to + padded, grad_y.template at<length()>(dense));
        });
    if (taps == 1) panels_.write(k, to, pixels, [](VectorPair<T> y) { return y; });
  }
  const Pixels<T> read = taps == 1 ? panels_.pixels() : Pixels<T>{grad_y_[0], grad_y_.pitch(), 1};
  for (int first = 0; first < stage_.inputs; first += kRegisterChannels) {
    const int size = std::min(kRegisterChannels, stage_.inputs - first);
    const T* weights = stage_.back_weights.get() + int64_t{first} * stage_.outputs * taps;
    convolve(read, stage_.outputs, stage_.back_offsets, weights,
             int64_t{size} * stage_.outputs * taps, grad_z_[0], grad_z_.pitch(), size, span_,
             WriteMode::kReplace);
    rows_.clear();
    for (int i = 0; i < size; ++i) {
      const int c = first + i;
      const T* x = source + c * read_pixels;
      T* grad_x = grad_source + c * read_pixels;
      if (stage_.pools()) {
        pooling_.gradient(stage_.norm[c], x, grad_z_[i], z_[i], grad_x, sums_.grad_sum[c],
                          sums_.grad_dot[c]);
      } else {
        mode == WriteMode::kAdd ? normalize<WriteMode::kAdd>(c, x, grad_z_[i], z_[i], grad_x)
                                : normalize<WriteMode::kReplace>(c, x, grad_z_[i], z_[i], grad_x);
      }
      for (int t = 0; t < taps; ++t) rows_.push_back(z_[i] + stage_.offsets[t]);
    }
    correlate(rows_, grad_y_[0], grad_y_.pitch(), stage_.outputs, span_,
              sums_.kernel.data() + int64_t{first} * taps * stage_.outputs, stage_.outputs);
  }
}

template <typename T>
template <WriteMode kMode>
void DirectBackward<T>::normalize(int c, const T* x, const T* grad_z, T* z, T* grad_x) {
  NormReluGradient<T> gradient(stage_.norm[c]);
  stage_.planes.template for_segments<2 * kLanes<T>>(
      [&](auto length, int64_t dense, int64_t padded) {
        const VectorPair<T> given = load_pixels<length()>(grad_z + padded);
        store_pixels<length()>(
            z + padded, gradient.template run<length(), kMode>(x + dense, given, grad_x + dense));
      });
  sums_.grad_sum[c] += gradient.grad_sum();
  sums_.grad_dot[c] += gradient.grad_dot();
}

template class DirectForward<float>;
template class DirectForward<double>;
template class DirectBackward<float>;
template class DirectBackward<double>;

}  // namespace densenet
