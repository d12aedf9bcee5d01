// The gradient of a stage, that of its 3x3 convolution tile by tile (winograd.h).

#pragma once

#include <cstdint>
#include <vector>

#include "stage.h"
#include "sums.h"
#include "tiles.h"

namespace densenet {

// What one thread needs to compute the gradients of chunks of a stage.
template <typename T>
class TiledBackward {
 public:
  TiledBackward(const Stage<T>& stage, const ThroughStatistics<T>* through, Sums<T>& sums)
      : stage_(stage),
        through_(through),
        sums_(sums),
        grid_(stage.planes),
        neighbours_(grid_),
        dy_(grid_, 1),
        dz_(grid_, kRegisterChannels),
        z_(grid_, kRegisterChannels),
        dy_tiles_(stage.outputs, blocks<T>(grid_)),
        dz_tiles_(kRegisterChannels, 1),
        own_dy_tiles_(grid_, stage.outputs),
        z_tiles_(grid_, kRegisterChannels) {}

  // As `Backward`.
  void run(const T* source, const T* target, const T* of_target, T* of_source, bool adds) {
    load(target, of_target);
    for (int first = 0; first < stage_.inputs; first += kRegisterChannels) {
      adds ? run<true>(first, source, of_source) : run<false>(first, source, of_source);
    }
  }

 private:
  void load(const T* target, const T* of_target);

  template <bool kAdds>
  void run(int first, const T* source, T* of_source);

  template <bool kAdds>
  void normalize(int channel, int c, const T* x, T* of_x);

  const Stage<T>& stage_;
  const ThroughStatistics<T>* through_;
  Sums<T>& sums_;
  TileGrid grid_;
  Neighbours<T> neighbours_;
  Quarters<T> dy_, dz_, z_;
  TileBlocks<T> dy_tiles_, dz_tiles_;
  TilePlanes<T> own_dy_tiles_, z_tiles_;
  std::vector<const T*> rows_;
};

}  // namespace densenet
