// A stage forward, all taps of its convolution one by one.

#pragma once

#include <algorithm>
#include <cstdint>

#include "panels.h"
#include "pooling.h"
#include "scratch.h"
#include "stage.h"

namespace densenet {

// Input channels that are normalized at a time: as many as take this many bytes of a core's second
// cache, within limits.
constexpr int64_t kForwardBytes = 1 << 18;

template <typename T>
int forward_channels(const Planes& planes) {
  const int64_t fitting = kForwardBytes / (planes.pitch<T>() * sizeof(T));
  return std::clamp<int64_t>(fitting, 32, 128);
}

// What one thread needs to compute chunks of a stage forward, or of all stages with its outputs and
// planes.
template <typename T>
class DirectForward {
 public:
  explicit DirectForward(const Stage<T>& stage)
      : span_(stage.planes.template span<T>()), channels_(forward_channels<T>(stage.planes)),
        x_(stage.planes, stage.taps() == 1 ? 1 : channels_),
        panels_(stage.taps() == 1 ? channels_ : 0, span_), y_(stage.planes, stage.outputs),
        pooling_(stage.read) {}

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const Stage<T>& stage, const T* source, T* target);

 private:
  int64_t span_;
  int channels_;  // that are normalized at a time
  Scratch<T> x_;
  Panels<T> panels_;  // in the place of x_, if there is a single tap
  Scratch<T> y_;
  Pooling<T> pooling_;
};

}  // namespace densenet
