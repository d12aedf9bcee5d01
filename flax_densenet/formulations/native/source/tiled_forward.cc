#include "tiled_forward.h"

#include "products.h"
#include "segments.h"

namespace densenet {

template <typename T>
void TiledForward<T>::run(const Stage<T>& stage, const T* source, T* target) {
  const int64_t pixels = stage.planes.pixels();
  for (int first = 0; first < stage.inputs; first += channels_) {
    const int size = std::min(channels_, stage.inputs - first);
    for (int c = 0; c < size; ++c) {
      const Affine<T> norm = stage.norm[first + c];
      const T* x = source + (first + c) * pixels;
      x_.for_segments(c, [&](auto length, int64_t dense, int64_t place) {
        x_.template write<length()>(place, norm_relu(norm, load_pixels<length()>(x + dense)));
      });
    }
    for (int64_t block = 0; block < blocks<T>(grid_); ++block) multiply(stage, first, size, block);
  }
  for (int k = 0; k < stage.outputs; ++k) {
    for_vectors<T>(grid_, [&](int64_t block, int64_t lane, int64_t tile) {
      to_quarters(sums_.at(block, 0, k) + lane, sums_.pitch(), y_, 0, tile);
    });
    y_.for_segments(0, [&](auto length, int64_t dense, int64_t place) {
      store_pixels<length()>(target + k * pixels + dense, y_.template read<length()>(place));
    });
  }
}

// Adds the share of some channels to the sums of a block.
template <typename T>
void TiledForward<T>::multiply(const Stage<T>& stage, int first, int size, int64_t block) {
  const int64_t size_of_number = int64_t{stage.inputs} * stage.outputs;
  for_vectors<T>(grid_, block, [&](int64_t lane, int64_t tile) {
    for (int c = 0; c < size; ++c) {
      to_tiles<Surroundings>(neighbours_, x_, c, tile, tiles_.at(0, 0, c) + lane, tiles_.pitch());
    }
  });
  for (int out = 0; out < stage.outputs; out += kRegisterChannels) {
    const int outs = std::min(kRegisterChannels, stage.outputs - out);
    const T* weights = stage.weights.data() + int64_t{out} * stage.inputs + int64_t{first} * outs;
    densenet::multiply<T>(kTileNumbers, {tiles_.pitch(), size_of_number, sums_.pitch()},
                          tiles_.at(0, 0, 0), kPanel<T>, size, weights, sums_.at(block, 0, out),
                          kPanel<T>, outs, span_of_block<T>(grid_, block), first > 0);
  }
}

template class TiledForward<float>;
template class TiledForward<double>;

}  // namespace densenet
