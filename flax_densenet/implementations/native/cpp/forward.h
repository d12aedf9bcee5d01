// A stage forward.

#pragma once

#include <variant>

#include "direct_forward.h"
#include "pointwise_forward.h"
#include "tiled_forward.h"

namespace densenet {

// What one thread needs to compute chunks of a stage forward, or of all stages with its outputs and
// planes.
template <typename T>
class Forward {
 public:
  explicit Forward(const Stage<T>& stage) : way_(way(stage)) {}

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const Stage<T>& stage, const T* source, T* target) {
    std::visit([&](auto& way) { way.run(stage, source, target); }, way_);
  }

 private:
  using Way = std::variant<PointwiseForward<T>, TiledForward<T>, DirectForward<T>>;

  static Way way(const Stage<T>& stage) {
    if (stage.taps() == 1) return PointwiseForward<T>(stage);
    if (stage.tiled) return TiledForward<T>(stage);
    return DirectForward<T>(stage);
  }

  Way way_;
};

}  // namespace densenet
