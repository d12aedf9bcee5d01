#include "direct_backward.h"

#include <algorithm>

#include "segments.h"

namespace densenet {

template <typename T>
void DirectBackward<T>::run(const T* source, const T* target, const T* of_target, T* of_source,
                            bool adds) {
  const int64_t read_pixels = stage_.read.pixels(), pixels = stage_.planes.pixels();
  const int taps = stage_.taps();
  for (int k = 0; k < stage_.outputs; ++k) {
    const Complete<T> complete(through_, k, target + k * pixels, of_target + k * pixels);
    T* to = dy_[k];
    stage_.planes.template for_segments<2 * kLanes<T>>(
        [&](auto length, int64_t dense, int64_t padded) {
          store_pixels<length()>(to + padded, complete.template at<length()>(dense));
        });
    if (taps == 1) panels_.write(k, to, pixels, [](Two<T> y) { return y; });
  }
  const Pixels<T> read = taps == 1 ? panels_.pixels() : Pixels<T>{dy_[0], dy_.pitch(), 1};
  for (int first = 0; first < stage_.inputs; first += kRegisterChannels) {
    const int size = std::min(kRegisterChannels, stage_.inputs - first);
    const T* weights = stage_.back_weights.get() + int64_t{first} * stage_.outputs * taps;
    convolve(read, stage_.outputs, stage_.back_offsets, weights,
             int64_t{size} * stage_.outputs * taps, dz_[0], dz_.pitch(), size, span_, false);
    rows_.clear();
    for (int i = 0; i < size; ++i) {
      const int c = first + i;
      const T* x = source + c * read_pixels;
      T* of_x = of_source + c * read_pixels;
      if (stage_.pools()) {
        pooling_.gradient(stage_.norm[c], x, dz_[i], z_[i], of_x, sums_.d[c], sums_.dx[c]);
      } else {
        adds ? normalize<true>(c, x, dz_[i], z_[i], of_x)
             : normalize<false>(c, x, dz_[i], z_[i], of_x);
      }
      for (int t = 0; t < taps; ++t) rows_.push_back(z_[i] + stage_.offsets[t]);
    }
    correlate(rows_, dy_[0], dy_.pitch(), stage_.outputs, span_,
              sums_.kernel.data() + int64_t{first} * taps * stage_.outputs, stage_.outputs);
  }
}

template <typename T>
template <bool kAdds>
void DirectBackward<T>::normalize(int c, const T* x, const T* dz, T* z, T* of_x) {
  NormReluGradient<T> gradient(stage_.norm[c]);
  stage_.planes.template for_segments<2 * kLanes<T>>(
      [&](auto length, int64_t dense, int64_t padded) {
        const Two<T> given = load_pixels<length()>(dz + padded);
        store_pixels<length()>(
            z + padded, gradient.template run<length(), kAdds>(x + dense, given, of_x + dense));
      });
  sums_.d[c] += gradient.d();
  sums_.dx[c] += gradient.dx();
}

template class DirectBackward<float>;
template class DirectBackward<double>;

}  // namespace densenet
