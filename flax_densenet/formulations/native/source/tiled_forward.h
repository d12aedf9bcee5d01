// A stage forward, its 3x3 convolution tile by tile (winograd.h).

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "stage.h"
#include "tiles.h"

namespace densenet {

// What one thread needs to compute chunks of a stage forward, or of all stages with its outputs and
// planes.
template <typename T>
class TiledForward {
 public:
  explicit TiledForward(const Stage<T>& stage)
      : grid_(stage.planes), neighbours_(grid_), channels_(channels(grid_)), x_(grid_, channels_),
        y_(grid_, 1), tiles_(channels_, 1), sums_(stage.outputs, blocks<T>(grid_)) {}

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const Stage<T>& stage, const T* source, T* target);

 private:
  // Input channels that are normalized at a time: as many as take this many bytes of a core's second
  // cache, within limits.
  static constexpr int64_t kBytes = 1 << 19;

  static int channels(const TileGrid& grid) {
    const int64_t fitting = kBytes / (4 * grid.span<T>() * sizeof(T));
    return std::clamp<int64_t>(fitting, 32, 128);
  }

  void multiply(const Stage<T>& stage, int first, int size, int64_t block);

  TileGrid grid_;
  Neighbours<T> neighbours_;
  int channels_;
  Quarters<T> x_, y_;
  TileBlocks<T> tiles_, sums_;
};

}  // namespace densenet
