#include "tiled_forward.h"

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

// Adds the share of some channels to the sums of a block, and writes its pixels with the last ones.
template <typename T>
void TiledForward<T>::multiply(const Stage<T>& stage, const TileGrid& strip, int64_t block,
                               int first, int size) {
  const int64_t size_of_number = int64_t{stage.inputs} * stage.outputs;
  for_vectors<T>(strip, block, [&](int64_t lane, int64_t tile) {
    for (int c = 0; c < size; ++c) {
      to_tiles<Surroundings>(neighbours_, x_, c, tile, tiles_.at(0, 0, c) + lane, tiles_.pitch());
    }
  });
  const bool is_last = first + size == stage.inputs;
  const int64_t place = first == 0 && is_last ? 0 : block;  // so that the cache keeps the sums
  for (int out = 0; out < stage.outputs; out += kRegisterChannels) {
    const int outs = std::min(kRegisterChannels, stage.outputs - out);
    const T* weights = stage.weights.get() + int64_t{out} * stage.inputs + int64_t{first} * outs;
    densenet::multiply<T>(kTileNumbers, {tiles_.pitch(), size_of_number, sums_.pitch()},
                          tiles_.at(0, 0, 0), kPanel<T>, size, weights, sums_.at(place, 0, out),
                          kPanel<T>, outs, span_of_block<T>(strip, block), first > 0);
  }
  if (!is_last) return;
  for_vectors<T>(strip, block, [&](int64_t lane, int64_t tile) {
    for (int k = 0; k < stage.outputs; ++k) {
      to_quarters(sums_.at(place, 0, k) + lane, sums_.pitch(), y_, k, tile);
    }
  });
}

template class TiledForward<float>;
template class TiledForward<double>;

}  // namespace densenet
