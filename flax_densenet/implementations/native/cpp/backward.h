// The gradient of a stage.

#pragma once

#include <optional>

#include "direct_backward.h"
#include "tiled_backward.h"

namespace densenet {

// What one thread needs to compute the gradients of chunks of a stage.
template <typename T>
class Backward {
 public:
  // Without `through`, the gradient of the target is complete as it is given.
  Backward(const Stage<T>& stage, const ThroughStatistics<T>* through, Sums<T>& sums) {
    stage.tiled ? void(tiled_.emplace(stage, through, sums))
                : void(direct_.emplace(stage, through, sums));
  }

  // Reads source [inputs, pixels], target and of_target [outputs, pixels]; adds to of_source, or
  // replaces it.
  void run(const T* source, const T* target, const T* of_target, T* of_source, bool adds) {
    tiled_ ? tiled_->run(source, target, of_target, of_source, adds)
           : direct_->run(source, target, of_target, of_source, adds);
  }

 private:
  std::optional<DirectBackward<T>> direct_;
  std::optional<TiledBackward<T>> tiled_;
};

}  // namespace densenet
