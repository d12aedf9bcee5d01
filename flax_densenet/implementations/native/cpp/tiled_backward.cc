#include "tiled_backward.h"

#include <algorithm>

#include "products.h"
#include "segments.h"

namespace densenet {

template <typename T>
void TiledBackward<T>::load(const T* target, const T* of_target) {
  const int64_t pixels = stage_.planes.pixels();
  for (int k = 0; k < stage_.outputs; ++k) {
    const Complete<T> complete(through_, k, target + k * pixels, of_target + k * pixels);
    dy_.for_segments(0, [&](auto length, int64_t dense, int64_t place) {
      dy_.template write<length()>(place, complete.template at<length()>(dense));
    });
    for_vectors<T>(grid_, [&](int64_t block, int64_t lane, int64_t tile) {
      to_tiles<Surroundings>(neighbours_, dy_, 0, tile, dy_tiles_.at(block, 0, k) + lane,
                             dy_tiles_.pitch());
      to_tiles<OwnPixels>(neighbours_, dy_, 0, tile, own_dy_tiles_.at(0, k) + tile,
                          own_dy_tiles_.number_pitch());
    });
  }
}

template <typename T>
template <bool kAdds>
void TiledBackward<T>::run(int first, const T* source, T* of_source) {
  const int64_t pixels = stage_.planes.pixels();
  const int64_t size_of_number = int64_t{stage_.inputs} * stage_.outputs;
  const int channels = std::min(kRegisterChannels, stage_.inputs - first);
  const T* weights = stage_.back_weights.get() + int64_t{first} * stage_.outputs;
  for (int64_t block = 0; block < blocks<T>(grid_); ++block) {
    multiply<T>(kTileNumbers, {dy_tiles_.pitch(), size_of_number, dz_tiles_.pitch()},
                dy_tiles_.at(block, 0, 0), kPanel<T>, stage_.outputs, weights,
                dz_tiles_.at(0, 0, 0), kPanel<T>, channels, span_of_block<T>(grid_, block), false);
    for_vectors<T>(grid_, block, [&](int64_t lane, int64_t tile) {
      for (int i = 0; i < channels; ++i) {
        to_quarters(dz_tiles_.at(0, 0, i) + lane, dz_tiles_.pitch(), dz_, i, tile);
      }
    });
  }
  rows_.clear();
  for (int i = 0; i < channels; ++i) {
    const int64_t place = (first + i) * pixels;
    normalize<kAdds>(i, first + i, source + place, of_source + place);
    for_vectors<T>(grid_, [&](int64_t, int64_t, int64_t tile) {
      to_tiles<Surroundings>(neighbours_, z_, i, tile, z_tiles_.at(0, i) + tile,
                             z_tiles_.number_pitch());
    });
    rows_.push_back(z_tiles_.at(0, i));
  }
  for (int number = 0; number < kTileNumbers; ++number) {
    correlate(rows_, own_dy_tiles_.at(number, 0), own_dy_tiles_.pitch(), stage_.outputs,
              grid_.span<T>(),
              &sums_.kernel[(int64_t{first} * kTileNumbers + number) * stage_.outputs],
              int64_t{kTileNumbers} * stage_.outputs);
    for (const T*& row : rows_) row += z_tiles_.number_pitch();
  }
}

template <typename T>
template <bool kAdds>
void TiledBackward<T>::normalize(int channel, int c, const T* x, T* of_x) {
  NormReluGradient<T> gradient(stage_.norm[c]);
  z_.for_segments(channel, [&](auto length, int64_t dense, int64_t place) {
    const Two<T> dz = dz_.template read<length()>(place);
    z_.template write<length()>(
        place, gradient.template run<length(), kAdds>(x + dense, dz, of_x + dense));
  });
  sums_.d[c] += gradient.d();
  sums_.dx[c] += gradient.dx();
}

template class TiledBackward<float>;
template class TiledBackward<double>;

}  // namespace densenet
