// The gradient of a stage, all taps of its convolution one by one.

#pragma once

#include <cstdint>
#include <vector>

#include "panels.h"
#include "pooling.h"
#include "scratch.h"
#include "stage.h"
#include "sums.h"

namespace densenet {

// What one thread needs to compute the gradients of chunks of a stage.
template <typename T>
class DirectBackward {
 public:
  // Without `through`, the gradient of the target is complete as it is given.
  DirectBackward(const Stage<T>& stage, const ThroughStatistics<T>* through, Sums<T>& sums)
      : stage_(stage),
        through_(through),
        sums_(sums),
        span_(stage.planes.template span<T>()),
        dy_(stage.planes, stage.outputs),
        panels_(stage.taps() == 1 ? stage.outputs : 0, span_),
        dz_(stage.planes, kRegisterChannels),
        z_(stage.planes, kRegisterChannels),
        pooling_(stage.read) {}

  // Reads source [inputs, pixels], target and of_target [outputs, pixels]; adds to of_source, or
  // replaces it.
  void run(const T* source, const T* target, const T* of_target, T* of_source, bool adds);

 private:
  template <bool kAdds>
  void normalize(int c, const T* x, const T* dz, T* z, T* of_x);

  const Stage<T>& stage_;
  const ThroughStatistics<T>* through_;
  Sums<T>& sums_;
  int64_t span_;
  Scratch<T> dy_;
  Panels<T> panels_;  // the same once more, if there is a single tap
  Scratch<T> dz_, z_;
  Pooling<T> pooling_;
  std::vector<const T*> rows_;
};

}  // namespace densenet
