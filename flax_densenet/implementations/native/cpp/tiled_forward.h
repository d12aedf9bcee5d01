// A stage forward, its 3x3 convolution tile by tile (winograd.h), strip by strip of their rows.

#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "stage.h"
#include "tiles.h"

namespace densenet {

// What one thread needs to compute chunks of a stage forward, or of all stages with its outputs and
// planes.
template <typename T>
class TiledForward {
 public:
  explicit TiledForward(const Stage<T>& stage)
      : grid_(stage.planes),
        strip_(strip(grid_)),
        neighbours_(strip_),
        channels_(channels(strip_)),
        x_(strip_, channels_),
        y_(strip_, stage.outputs),
        tiles_(channels_, 1),
        sums_(stage.outputs, blocks<T>(strip_)) {}

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const Stage<T>& stage, const T* source, T* target);

 private:
  // Input channels that are normalized at a time: as many as take this many bytes of a core's
  // second cache, within limits.
  static constexpr int64_t kBytes = 1 << 19;
  static constexpr int kLeastChannels = 32, kMostChannels = 128;

  // As high as so many bytes allow most channels to be normalized at a time, but whole blocks.
  static TileGrid strip(const TileGrid& grid) {
    const int64_t step = kPanel<T> / std::gcd(kPanel<T>, grid.columns());
    const int64_t fitting = kBytes / (kMostChannels * 4 * grid.columns() * sizeof(T));
    return grid.strip(0, 2 * step * std::max<int64_t>(1, fitting / step));
  }

  static int channels(const TileGrid& strip) {
    const int64_t fitting = kBytes / (4 * strip.span<T>() * sizeof(T));
    return std::clamp<int64_t>(fitting, kLeastChannels, kMostChannels);
  }

  void normalize(const Stage<T>& stage, const T* source, int64_t start, int first, int size);
  void multiply(const Stage<T>& stage, const TileGrid& strip, int64_t block, int first, int size);

  TileGrid grid_, strip_;  // of the chunk, and of a strip as high as there is one
  Neighbours<T> neighbours_;
  int channels_;  // that are normalized at a time
  Quarters<T> x_, y_;
  TileBlocks<T> tiles_, sums_;
};

}  // namespace densenet
