#include "direct_forward.h"

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
               first > 0);
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

template class DirectForward<float>;
template class DirectForward<double>;

}  // namespace densenet
