#include "backward.h"

#include <algorithm>

namespace densenet {
namespace {

// A function of its own, whose arguments are known not to overlap: or nothing is vectorized.
template <bool kAdds, int kLength, typename T>
void segment(Affine<T> norm, const T* __restrict x, const T* __restrict dz, T* __restrict z,
             T* __restrict of_x, T* __restrict sum_d, T* __restrict sum_dx) {
  for (int i = 0; i < kLength; ++i) {
    const T given = dz[i], before = kAdds ? of_x[i] : T(0);
    const T centered = x[i] - norm.mean;
    const T value = centered * norm.factor + norm.bias;
    const T d = value > 0 ? given : T(0);
    z[i] = relu(value);
    sum_d[i] += d;
    sum_dx[i] += d * centered;
    of_x[i] = before + norm.factor * d;
  }
}

}  // namespace

template <typename T>
void Backward<T>::run(const T* source, const T* target, const T* of_target, T* of_source,
                      bool adds) {
  const int64_t read_pixels = stage_.read.pixels(), pixels = stage_.planes.pixels();
  const int taps = stage_.taps();
  for (int k = 0; k < stage_.outputs; ++k) {
    complete(k, target + k * pixels, of_target + k * pixels, dy_[k]);
  }
  for (int first = 0; first < stage_.inputs; first += kTileChannels) {
    const int size = std::min(kTileChannels, stage_.inputs - first);
    const T* weights = stage_.back_weights.data() + int64_t{first} * stage_.outputs * taps;
    convolve(dy_[0], dy_.pitch(), stage_.outputs, stage_.back_offsets, weights, dz_[0], dz_.pitch(),
             size, span_, false);
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
void Backward<T>::complete(int k, const T* y, const T* dy, T* to) {
  if (!through_) {
    stage_.planes.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
      for (int i = 0; i < length(); ++i) to[padded + i] = dy[dense + i];
    });
    return;
  }
  const T mean = through_->mean[k], constant = through_->constant[k], slope = through_->slope[k];
  stage_.planes.for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
    for (int i = 0; i < length(); ++i) {
      to[padded + i] = dy[dense + i] + (constant + slope * (y[dense + i] - mean));
    }
  });
}

template <typename T>
template <bool kAdds>
void Backward<T>::normalize(int c, const T* x, const T* dz, T* z, T* of_x) {
  const Affine<T> norm = stage_.norm[c];
  SegmentSum<T> sum_d, sum_dx;
  stage_.planes.for_segments([&](auto length, int64_t dense, int64_t padded) {
    segment<kAdds, length()>(norm, x + dense, dz + padded, z + padded, of_x + dense, sum_d.lanes,
                             sum_dx.lanes);
  });
  sums_.d[c] += sum_d.total();
  sums_.dx[c] += sum_dx.total();
}

template class Backward<float>;
template class Backward<double>;

}  // namespace densenet
