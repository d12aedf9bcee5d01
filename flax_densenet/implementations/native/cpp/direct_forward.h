// A stage forward, all taps of its convolution one by one.

#pragma once

#include <algorithm>
#include <cstdint>

#include "scratch.h"
#include "stage.h"

namespace densenet {

// What one thread needs to compute chunks of a stage forward, or of all stages with its outputs and
// planes.
template <typename T>
class DirectForward {
 public:
  explicit DirectForward(const Stage<T>& stage)
      : span_(stage.planes.template span<T>()),
        channels_(channels(stage.planes)),
        x_(stage.planes, channels_),
        y_(stage.planes, stage.outputs) {}

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const Stage<T>& stage, const T* source, T* target);

 private:
  // Input channels that are normalized at a time: as many as take this many bytes of a core's
  // second cache, within limits.
  static constexpr int64_t kBytes = 1 << 18;

  static int channels(const Planes& planes) {
    const int64_t fitting = kBytes / (planes.pitch<T>() * sizeof(T));
    return std::clamp<int64_t>(fitting, 32, 128);
  }

  int64_t span_;
  int channels_;  // that are normalized at a time
  Scratch<T> x_, y_;
};

}  // namespace densenet
