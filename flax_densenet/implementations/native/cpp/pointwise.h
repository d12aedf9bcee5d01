// A stage with a 1x1 convolution, forward, piece by piece of its pixels.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "panels.h"
#include "planes.h"
#include "pooling.h"
#include "stage.h"

namespace densenet {

// As `Forward`.
template <typename T>
class PointwiseForward {
 public:
  explicit PointwiseForward(const Stage<T>& stage)
      : pixels_(stage.planes.pixels()),
        piece_(stage.pools() ? pixels_ : std::min(kPiece, pixels_)),
        channels_(std::clamp<int64_t>(kBytes / (piece_ * sizeof(T)), 32, 128)),
        panels_(channels_, piece_),
        y_(Planes{1, 1, piece_, 0}, stage.outputs),
        pooling_(stage.read),
        pooled_(stage.pools() ? pixels_ : 0) {}

  void run(const Stage<T>& stage, const T* source, T* target);

 private:
  // Pixels that go through all input channels at a time, so that their sums stay in a core's second
  // cache.
  static constexpr int64_t kPiece = 256;

  // As many input channels are normalized at a time as take this many bytes of that cache, within
  // limits.
  static constexpr int64_t kBytes = 1 << 18;

  void normalize(const Stage<T>& stage, const T* source, int first, int size, int64_t length);

  int64_t pixels_, piece_;
  int channels_;  // that are normalized at a time
  Panels<T> panels_;
  Scratch<T> y_;
  Pooling<T> pooling_;
  std::vector<T> pooled_;
};

}  // namespace densenet
