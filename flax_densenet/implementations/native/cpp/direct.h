// A stage whose convolution goes tap by tap.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "panels.h"
#include "planes.h"
#include "pooling.h"
#include "stage.h"
#include "sums.h"

namespace densenet {

// As `Forward`.
template <typename T>
class DirectForward {
 public:
  explicit DirectForward(const Stage<T>& stage)
      : span_(stage.planes.template span<T>()),
        channels_(channels(stage.planes)),
        x_(stage.planes, channels_),
        y_(stage.planes, stage.outputs) {}

  void run(const Stage<T>& stage, const T* source, T* target);

 private:
  // As many input channels are normalized at a time as take this many bytes of a core's second
  // cache, within limits.
  static constexpr int64_t kBytes = 1 << 18;

  static int channels(const Planes& planes) {
    const int64_t fitting = kBytes / (planes.pitch<T>() * sizeof(T));
    return std::clamp<int64_t>(fitting, 32, 128);
  }

  int64_t span_;
  int channels_;  // that are normalized at a time
  Scratch<T> x_, y_;
};

// As `Backward`.
template <typename T>
class DirectBackward {
 public:
  DirectBackward(const Stage<T>& stage, const StatisticsTerm<T>* term, Sums<T>& sums)
      : stage_(stage),
        term_(term),
        sums_(sums),
        span_(stage.planes.template span<T>()),
        grad_y_(stage.planes, stage.outputs),
        panels_(stage.taps() == 1 ? stage.outputs : 0, span_),
        grad_z_(stage.planes, kRegisterChannels),
        z_(stage.planes, kRegisterChannels),
        pooling_(stage.read) {}

  void run(const T* source, const T* target, const T* grad_target, T* grad_source, WriteMode mode);

 private:
  template <WriteMode kMode>
  void normalize(int c, const T* x, const T* grad_z, T* z, T* grad_x);

  const Stage<T>& stage_;
  const StatisticsTerm<T>* term_;
  Sums<T>& sums_;
  int64_t span_;
  Scratch<T> grad_y_;
  Panels<T> panels_;  // grad_y once more, if there is a single tap
  Scratch<T> grad_z_, z_;
  Pooling<T> pooling_;
  std::vector<const T*> rows_;
};

}  // namespace densenet
