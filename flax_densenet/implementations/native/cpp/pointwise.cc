#include "pointwise.h"

#include "segments.h"

namespace densenet {

template <typename T>
void PointwiseForward<T>::run(const Stage<T>& stage, const T* source, T* target) {
  for (int64_t start = 0; start < pixels_; start += piece_) {
    const int64_t length = std::min(piece_, pixels_ - start);
    const int64_t span = (length + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    for (int first = 0; first < stage.inputs; first += channels_) {
      const int size = std::min(channels_, stage.inputs - first);
      normalize(stage, source + start, first, size, length);
      for (int out = 0; out < stage.outputs; out += kRegisterChannels) {
        const int outs = std::min(kRegisterChannels, stage.outputs - out);
        const T* weights =
            stage.weights.get() + int64_t{out} * stage.inputs + int64_t{first} * outs;
        convolve(panels_.pixels(), size, stage.offsets, weights, int64_t{outs} * stage.inputs,
                 y_[out], y_.pitch(), outs, span, add_if(first > 0));
      }
    }
    for (int k = 0; k < stage.outputs; ++k) {
      std::copy_n(y_[k], length, target + k * pixels_ + start);
    }
  }
}

// Writes some channels of a piece, which begins at `source`, to the panels.
template <typename T>
void PointwiseForward<T>::normalize(const Stage<T>& stage, const T* source, int first, int size,
                                    int64_t length) {
  for (int c = 0; c < size; ++c) {
    const Affine<T> norm = stage.norm[first + c];
    const T* x = source + (first + c) * stage.read.pixels();
    if (stage.pools()) {
      pooling_.forward(norm, x, pooled_.data());
      panels_.write(c, pooled_.data(), length, [](VectorPair<T> y) { return y; });
    } else {
      panels_.write(c, x, length, [=](VectorPair<T> v) { return norm_relu(norm, v); });
    }
  }
}

template class PointwiseForward<float>;
template class PointwiseForward<double>;

}  // namespace densenet
