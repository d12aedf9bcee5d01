// The gradient of a stage.

#pragma once

#include <cstdint>
#include <vector>

#include "pooling.h"
#include "scratch.h"
#include "stage.h"

namespace densenet {

// Sums over pixels of what the gradients of a stage need.
template <typename T>
struct Sums {
  std::vector<T> kernel;      // [inputs, taps, outputs]
  std::vector<double> d, dx;  // [inputs]: gradient behind the ReLU; the same times x - mean

  explicit Sums(const Stage<T>& stage)
      : kernel(int64_t{stage.inputs} * stage.taps() * stage.outputs), d(stage.inputs),
        dx(stage.inputs) {}
};

// What one thread needs to compute the gradients of chunks of a stage.
template <typename T>
class Backward {
 public:
  // Without `through`, the gradient of the target is complete as it is given.
  Backward(const Stage<T>& stage, const ThroughStatistics<T>* through, Sums<T>& sums)
      : stage_(stage), through_(through), sums_(sums), span_(stage.planes.template span<T>()),
        dy_(stage.planes, stage.outputs), dz_(stage.planes, kTileChannels),
        z_(stage.planes, kTileChannels), pooling_(stage.read) {}

  // Reads source [inputs, pixels], target and of_target [outputs, pixels]; adds to of_source, or
  // replaces it.
  void run(const T* source, const T* target, const T* of_target, T* of_source, bool adds);

 private:
  void complete(int k, const T* y, const T* dy, T* to);

  template <bool kAdds>
  void normalize(int c, const T* x, const T* dz, T* z, T* of_x);

  const Stage<T>& stage_;
  const ThroughStatistics<T>* through_;
  Sums<T>& sums_;
  int64_t span_;
  Scratch<T> dy_, dz_, z_;
  Pooling<T> pooling_;
  std::vector<const T*> rows_;
};

}  // namespace densenet
