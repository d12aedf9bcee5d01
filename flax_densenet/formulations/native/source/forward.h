// A stage forward.

#pragma once

#include <optional>

#include "direct_forward.h"
#include "tiled_forward.h"

namespace densenet {

// What one thread needs to compute chunks of a stage forward, or of all stages with its outputs and
// planes.
template <typename T>
class Forward {
 public:
  explicit Forward(const Stage<T>& stage) {
    stage.tiled ? void(tiled_.emplace(stage)) : void(direct_.emplace(stage));
  }

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const Stage<T>& stage, const T* source, T* target) {
    tiled_ ? tiled_->run(stage, source, target) : direct_->run(stage, source, target);
  }

 private:
  std::optional<DirectForward<T>> direct_;
  std::optional<TiledForward<T>> tiled_;
};

}  // namespace densenet
