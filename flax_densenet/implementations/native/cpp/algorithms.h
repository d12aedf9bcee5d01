// Chooses how a stage is computed: piece by piece, tile by tile, or tap by tap.

#pragma once

#include <optional>
#include <variant>

#include "direct.h"
#include "pointwise.h"
#include "tiled.h"

namespace densenet {

// One thread's worker that computes chunks of a stage, or of other stages with the same outputs and
// planes.
template <typename T>
class Forward {
 public:
  explicit Forward(const Stage<T>& stage) : algorithm_(choose(stage)) {}

  // Reads source [inputs, pixels], writes target [outputs, pixels].
  void run(const Stage<T>& stage, const T* source, T* target) {
    std::visit([&](auto& algorithm) { algorithm.run(stage, source, target); }, algorithm_);
  }

 private:
  using Algorithm = std::variant<PointwiseForward<T>, TiledForward<T>, DirectForward<T>>;

  static Algorithm choose(const Stage<T>& stage) {
    if (stage.taps() == 1) return PointwiseForward<T>(stage);
    if (stage.tiled) return TiledForward<T>(stage);
    return DirectForward<T>(stage);
  }

  Algorithm algorithm_;
};

// One thread's worker that computes the gradients of chunks of a stage.
template <typename T>
class Backward {
 public:
  // `term` completes the gradients of the target; null: they are complete.
  Backward(const Stage<T>& stage, const StatisticsTerm<T>* term, Sums<T>& sums) {
    stage.tiled ? void(tiled_.emplace(stage, term, sums))
                : void(direct_.emplace(stage, term, sums));
  }

  // Reads source [inputs, pixels], target and grad_target [outputs, pixels]; writes or adds to
  // grad_source. Without a term, the target is not read.
  void run(const T* source, const T* target, const T* grad_target, T* grad_source, WriteMode mode) {
    tiled_ ? tiled_->run(source, target, grad_target, grad_source, mode)
           : direct_->run(source, target, grad_target, grad_source, mode);
  }

 private:
  std::optional<DirectBackward<T>> direct_;
  std::optional<TiledBackward<T>> tiled_;
};

}  // namespace densenet
