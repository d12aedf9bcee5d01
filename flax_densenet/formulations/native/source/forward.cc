#include "forward.h"

#include <algorithm>

namespace densenet {
namespace {

template <typename T>
void normalize(const Planes& planes, Affine<T> norm, const T* x, T* y) {
  planes.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
    for (int i = 0; i < length(); ++i) y[padded + i] = relu(norm(x[dense + i]));
  });
}

}  // namespace

template <typename T>
void Forward<T>::run(const Stage<T>& stage, const T* source, T* target) {
  const int64_t read_pixels = stage.read.pixels(), pixels = stage.planes.pixels();
  const int taps = stage.taps();
  for (int first = 0; first < stage.inputs; first += channels_) {
    const int size = std::min(channels_, stage.inputs - first);
    for (int c = 0; c < size; ++c) {
      const T* x = source + (first + c) * read_pixels;
      stage.pools() ? pooling_.forward(stage.norm[first + c], x, x_[c])
                    : normalize(stage.planes, stage.norm[first + c], x, x_[c]);
    }
    for (int out = 0; out < stage.outputs; out += kTileChannels) {
      const int outs = std::min(kTileChannels, stage.outputs - out);
      const T* weights =
          stage.weights.data() + (int64_t{out} * stage.inputs + int64_t{first} * outs) * taps;
      convolve(x_[0], x_.pitch(), size, stage.offsets, weights, y_[out], y_.pitch(), outs, span_,
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

template class Forward<float>;
template class Forward<double>;

}  // namespace densenet
