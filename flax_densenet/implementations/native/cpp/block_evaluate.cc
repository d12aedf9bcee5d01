// Dense blocks in evaluation, with the transition after them if there is one: `block_evaluate`.
//
// Chunks do not depend on one another. Each goes through all layers by itself, and with a
// transition its features are never in memory all at once.
//
// Axes: G chunks, C channels before the block, D after it, K after the transition, P pixels of a
// chunk, p after pooling.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block_arguments.h"

namespace densenet {
namespace {

constexpr PackLayout kLayout{/*has_running=*/true};

template <typename T>
ffi::Error block_evaluate(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                          int64_t stages_per_layer, bool has_transition, Array<T, 3> x,
                          ffi::RemainingArgs parameters, Output<T, 3> y) {
  const auto shape = x.dimensions();
  const int64_t chunks = shape[0], pixels = shape[2];
  const int64_t arrays = kLayout.arrays_per_stage();
  Checks checks("block_evaluate");
  checks.shape("x", x, {kAny, kAny, kAny});
  checks.images("x", pixels, height, width);
  if (has_transition) checks.at_least("height", height, 2);
  if (has_transition) checks.at_least("width", width, 2);
  if (stages_per_layer != 1 && stages_per_layer != 2) {
    checks.fail("stages_per_layer is " + std::to_string(stages_per_layer) + ", wanted 1 or 2");
  }
  if (checks.failed()) return checks.error();
  const int64_t in_layers = static_cast<int64_t>(parameters.size()) - has_transition * arrays;
  const int64_t layers = std::max<int64_t>(1, in_layers / (stages_per_layer * arrays));
  checks.count("parameters", parameters.size(),
               (layers * stages_per_layer + has_transition) * arrays);
  auto [all_stages, joined] =
      read_block<T>(checks, parameters, kLayout, layers, stages_per_layer, shape[1], kAny);
  const size_t in_block = all_stages.size();
  if (checks.failed()) return checks.error();
  if (has_transition) {
    all_stages.push_back(read_stage<T>(checks, parameters, kLayout, in_block, 1, joined, kAny));
    const int64_t pooled = pixels / (height * width) * (height / 2) * (width / 2);
    checks.shape("y", *y, {chunks, all_stages.back().shape.outputs, pooled});
  } else {
    checks.shape("y", *y, {chunks, joined, pixels});
  }
  if (checks.failed()) return checks.error();

  Executor<T> executor(pool, chunks, planes(pixels, height, width), epsilon);
  const Maps<T> input = maps<T>(x);
  const Maps<T> output = maps<T>(*y);
  std::vector<Stage<T>> stages;
  for (size_t i = 0; i < all_stages.size(); ++i) {
    const StageParameters<T>& stage = all_stages[i];
    stages.push_back(i < in_block ? executor.stage(stage, stage.running)
                                  : executor.transition(stage, stage.running));
  }
  for_ranges(pool, stages.size(), [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      stages[i].reserve_forward();
      for (int c = 0; c < stages[i].inputs; ++c) stages[i].pack_forward(c);
    }
  });
  const int64_t features_of_chunk = joined * pixels;
  executor.for_parts([&](int, int64_t first, int64_t end) {
    std::vector<Forward<T>> workers;  // for each stage of a layer, and the transition
    for (int64_t i = 0; i < stages_per_layer; ++i) workers.emplace_back(stages[i]);
    if (has_transition) workers.emplace_back(stages.back());
    std::vector<T> bottleneck(stages_per_layer == 2 ? stages[0].outputs * pixels : 0);
    std::vector<T> own(has_transition ? features_of_chunk : 0);
    for (int64_t g = first; g < end; ++g) {
      T* features = has_transition ? own.data() : output.at(g, 0);
      std::copy_n(input.at(g, 0), input.channels * pixels, features);
      int64_t channels = input.channels;
      for (size_t i = 0; i < in_block; i += stages_per_layer) {
        const T* source = features;
        if (stages_per_layer == 2) {
          workers[0].run(stages[i], source, bottleneck.data());
          source = bottleneck.data();
        }
        const size_t last = i + stages_per_layer - 1;
        workers[stages_per_layer - 1].run(stages[last], source, features + channels * pixels);
        channels += stages[last].outputs;
      }
      if (has_transition) workers.back().run(stages.back(), features, output.at(g, 0));
    }
  });
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(block_evaluate,
                ffi::Ffi::Bind()
                    .Ctx<ffi::ThreadPool>()
                    .Attr<int64_t>("height")
                    .Attr<int64_t>("width")
                    .Attr<double>("epsilon")
                    .Attr<int64_t>("stages_per_layer")
                    .Attr<bool>("has_transition")
                    .Arg<Array<T, 3>>()    // x [G, C, P]
                    .RemainingArgs()       // parameters: 5 arrays of each stage (PackLayout)
                    .Ret<Array<T, 3>>());  // y: features [G, D, P], or with a transition [G, K, p]

}  // namespace densenet
