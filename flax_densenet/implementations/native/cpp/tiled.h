// A stage whose 3x3 convolution goes tile by tile (winograd.h).

#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "stage.h"
#include "sums.h"
#include "tiles.h"

namespace densenet {

// As `Forward`. A chunk goes through strip by strip of its rows.
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

  void run(const Stage<T>& stage, const T* source, T* target);

 private:
  // As many input channels are normalized at a time as take this many bytes of a core's second
  // cache, within limits.
  static constexpr int64_t kBytes = 1 << 19;
  static constexpr int kLeastChannels = 32, kMostChannels = 128;

  // The highest strip of whole blocks whose bytes allow most channels to be normalized at a time.
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

  TileGrid grid_, strip_;  // of the chunk, and of its highest strip
  Neighbours<T> neighbours_;
  int channels_;  // that are normalized at a time
  PolyphasePlanes<T> x_, y_;
  TileBlocks<T> tiles_, sums_;
};

// As `Backward`.
template <typename T>
class TiledBackward {
 public:
  TiledBackward(const Stage<T>& stage, const StatisticsTerm<T>* term, Sums<T>& sums)
      : stage_(stage),
        term_(term),
        sums_(sums),
        grid_(stage.planes),
        neighbours_(grid_),
        grad_y_(grid_, 1),
        grad_z_(grid_, kRegisterChannels),
        z_(grid_, kRegisterChannels),
        grad_y_blocks_(stage.outputs, blocks<T>(grid_)),
        grad_z_blocks_(kRegisterChannels, 1),
        grad_y_planes_(grid_, stage.outputs),
        z_planes_(grid_, kRegisterChannels) {}

  void run(const T* source, const T* target, const T* grad_target, T* grad_source, WriteMode mode) {
    load(target, grad_target);
    for (int first = 0; first < stage_.inputs; first += kRegisterChannels) {
      mode == WriteMode::kAdd ? run<WriteMode::kAdd>(first, source, grad_source)
                              : run<WriteMode::kReplace>(first, source, grad_source);
    }
  }

 private:
  void load(const T* target, const T* grad_target);

  template <WriteMode kMode>
  void run(int first, const T* source, T* grad_source);

  template <WriteMode kMode>
  void normalize(int channel, int c, const T* x, T* grad_x);

  const Stage<T>& stage_;
  const StatisticsTerm<T>* term_;
  Sums<T>& sums_;
  TileGrid grid_;
  Neighbours<T> neighbours_;
  PolyphasePlanes<T> grad_y_, grad_z_, z_;
  TileBlocks<T> grad_y_blocks_, grad_z_blocks_;  // transformed for the gradient of the input
  TilePlanes<T> grad_y_planes_, z_planes_;       // transformed for the gradient of the kernel
  std::vector<const T*> rows_;
};

}  // namespace densenet
