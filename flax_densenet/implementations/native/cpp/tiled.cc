#include "tiled.h"

#include <algorithm>

#include "products.h"
#include "segments.h"

namespace densenet {

template <typename T>
void TiledForward<T>::run(const Stage<T>& stage, const T* source, T* target) {
  for (int64_t start = 0; start < grid_.height; start += strip_.height) {
    const TileGrid strip = grid_.strip(start, strip_.height);
    for (int first = 0; first < stage.inputs; first += channels_) {
      const int size = std::min(channels_, stage.inputs - first);
      normalize(stage, source, start, first, size);
      for (int64_t block = 0; block < blocks<T>(strip); ++block) {
        multiply(stage, strip, block, first, size);
      }
    }
    for (int k = 0; k < stage.outputs; ++k) {
      T* to = target + k * stage.planes.pixels();
      y_.for_segments(k, grid_.height, start, [&](auto length, int64_t dense, int64_t place) {
        store_pixels<length()>(to + dense, y_.template read<length()>(place));
      });
    }
  }
}

template <typename T>
void TiledForward<T>::normalize(const Stage<T>& stage, const T* source, int64_t start, int first,
                                int size) {
  for (int c = 0; c < size; ++c) {
    const Affine<T> norm = stage.norm[first + c];
    const T* x = source + (first + c) * stage.planes.pixels();
    x_.for_surroundings(c, grid_.height, start, [&](auto length, int64_t dense, int64_t place) {
      x_.template write<length()>(place, norm_relu(norm, load_pixels<length()>(x + dense)));
    });
  }
}

// Adds the share of some channels to the sums of a block; with the last ones, writes its pixels.
template <typename T>
void TiledForward<T>::multiply(const Stage<T>& stage, const TileGrid& strip, int64_t block,
                               int first, int size) {
  const int64_t element_size = int64_t{stage.inputs} * stage.outputs;
  for_vectors<T>(strip, block, [&](int64_t lane, int64_t tile) {
    for (int c = 0; c < size; ++c) {
      transform_tiles<InputTransform>(neighbours_, x_, c, tile, tiles_.at(0, 0, c) + lane,
                                      tiles_.pitch());
    }
  });
  const bool is_last = first + size == stage.inputs;
  const int64_t place = first == 0 && is_last ? 0 : block;  // so that the cache keeps the sums
  for (int out = 0; out < stage.outputs; out += kRegisterChannels) {
    const int outs = std::min(kRegisterChannels, stage.outputs - out);
    const T* weights = stage.weights.get() + int64_t{out} * stage.inputs + int64_t{first} * outs;
    densenet::multiply<T>(kTileElements, {tiles_.pitch(), element_size, sums_.pitch()},
                          tiles_.at(0, 0, 0), kPanel<T>, size, weights, sums_.at(place, 0, out),
                          kPanel<T>, outs, span_of_block<T>(strip, block), add_if(first > 0));
  }
  if (!is_last) return;
  for_vectors<T>(strip, block, [&](int64_t lane, int64_t tile) {
    for (int k = 0; k < stage.outputs; ++k) {
      write_pixels(sums_.at(place, 0, k) + lane, sums_.pitch(), y_, k, tile);
    }
  });
}

template <typename T>
void TiledBackward<T>::load(const T* target, const T* grad_target) {
  const int64_t pixels = stage_.planes.pixels();
  for (int k = 0; k < stage_.outputs; ++k) {
    const OutputGradient<T> grad_y(term_, k, target + k * pixels, grad_target + k * pixels);
    grad_y_.for_segments(0, [&](auto length, int64_t dense, int64_t place) {
      grad_y_.template write<length()>(place, grad_y.template at<length()>(dense));
    });
    for_vectors<T>(grid_, [&](int64_t block, int64_t lane, int64_t tile) {
      transform_tiles<InputTransform>(neighbours_, grad_y_, 0, tile,
                                      grad_y_blocks_.at(block, 0, k) + lane,
                                      grad_y_blocks_.pitch());
      transform_tiles<GradientTransform>(neighbours_, grad_y_, 0, tile,
                                         grad_y_planes_.at(0, k) + tile,
                                         grad_y_planes_.element_pitch());
    });
  }
}

template <typename T>
template <WriteMode kMode>
void TiledBackward<T>::run(int first, const T* source, T* grad_source) {
  const int64_t pixels = stage_.planes.pixels();
  const int64_t element_size = int64_t{stage_.inputs} * stage_.outputs;
  const int channels = std::min(kRegisterChannels, stage_.inputs - first);
  const T* weights = stage_.back_weights.get() + int64_t{first} * stage_.outputs;
  for (int64_t block = 0; block < blocks<T>(grid_); ++block) {
    multiply<T>(kTileElements, {grad_y_blocks_.pitch(), element_size, grad_z_blocks_.pitch()},
                grad_y_blocks_.at(block, 0, 0), kPanel<T>, stage_.outputs, weights,
                grad_z_blocks_.at(0, 0, 0), kPanel<T>, channels, span_of_block<T>(grid_, block),
                WriteMode::kReplace);
    for_vectors<T>(grid_, block, [&](int64_t lane, int64_t tile) {
      for (int i = 0; i < channels; ++i) {
        write_pixels(grad_z_blocks_.at(0, 0, i) + lane, grad_z_blocks_.pitch(), grad_z_, i, tile);
      }
    });
  }
  rows_.clear();
  for (int i = 0; i < channels; ++i) {
    const int64_t place = (first + i) * pixels;
    normalize<kMode>(i, first + i, source + place, grad_source + place);
    for_vectors<T>(grid_, [&](int64_t, int64_t, int64_t tile) {
      transform_tiles<InputTransform>(neighbours_, z_, i, tile, z_planes_.at(0, i) + tile,
                                      z_planes_.element_pitch());
    });
    rows_.push_back(z_planes_.at(0, i));
  }
  for (int element = 0; element < kTileElements; ++element) {
    correlate(rows_, grad_y_planes_.at(element, 0), grad_y_planes_.pitch(), stage_.outputs,
              grid_.span<T>(),
              &sums_.kernel[(int64_t{first} * kTileElements + element) * stage_.outputs],
              int64_t{kTileElements} * stage_.outputs);
    for (const T*& row : rows_) row += z_planes_.element_pitch();
  }
}

template <typename T>
template <WriteMode kMode>
void TiledBackward<T>::normalize(int channel, int c, const T* x, T* grad_x) {
  NormReluGradient<T> gradient(stage_.norm[c]);
  z_.for_segments(channel, [&](auto length, int64_t dense, int64_t place) {
    const VectorPair<T> grad_z = grad_z_.template read<length()>(place);
    z_.template write<length()>(
        place, gradient.template run<length(), kMode>(x + dense, grad_z, grad_x + dense));
  });
  sums_.grad_sum[c] += gradient.grad_sum();
  sums_.grad_dot[c] += gradient.grad_dot();
}

template class TiledForward<float>;
template class TiledForward<double>;
template class TiledBackward<float>;
template class TiledBackward<double>;

}  // namespace densenet
