// A dense block in evaluation, and the transition behind it if there is one.
//
// Nothing depends on other chunks: each goes through all layers by itself, and with a transition
// its features are never in memory all at once.

#include <cstdint>
#include <vector>

#include "arrays.h"

namespace densenet {
namespace {

template <typename T>
ffi::Error evaluate(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                    int64_t stages_per_layer, bool has_transition, ffi::AnyBuffer x,
                    ffi::RemainingArgs args, ffi::Result<ffi::AnyBuffer> result) {
  const auto shape = x.dimensions();
  const Planes read = planes(shape[2], height, width);
  Passes<T> passes(pool, shape[0], read, epsilon);
  const Maps<T> input = maps(data<T>(x), shape);
  const Maps<T> output = maps(data<T>(result), result->dimensions());

  const auto stage_parameters = parameters<T>(args, 5);
  const size_t in_block = stage_parameters.size() - has_transition;
  int64_t joined = input.channels;
  std::vector<Stage<T>> stages;
  for (size_t i = 0; i < stage_parameters.size(); ++i) {
    const Statistics<T> running{data<T>(*args.get<ffi::AnyBuffer>(5 * i + 3)),
                                data<T>(*args.get<ffi::AnyBuffer>(5 * i + 4))};
    stages.push_back(i < in_block ? passes.stage(stage_parameters[i], running)
                                  : passes.transition(stage_parameters[i], running));
    const bool makes_features = (i + 1) % stages_per_layer == 0;
    if (i < in_block && makes_features) joined += stages[i].outputs;
  }

  for_ranges(pool, stages.size(), [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      stages[i].reserve_forward();
      for (int c = 0; c < stages[i].inputs; ++c) stages[i].pack_forward(c);
    }
  });
  passes.for_parts([&](int, int64_t first, int64_t end) {
    std::vector<Forward<T>> workers;  // for each stage of a layer, and the transition
    for (int64_t i = 0; i < stages_per_layer; ++i) workers.emplace_back(stages[i]);
    if (has_transition) workers.emplace_back(stages.back());
    std::vector<T> bottleneck(stages_per_layer == 2 ? stages[0].outputs * input.pixels : 0);
    std::vector<T> own(has_transition ? joined * input.pixels : 0);
    for (int64_t g = first; g < end; ++g) {
      T* features = has_transition ? own.data() : output.at(g, 0);
      std::copy_n(input.at(g, 0), input.channels * input.pixels, features);
      int64_t channels = input.channels;
      for (size_t i = 0; i < in_block; i += stages_per_layer) {
        const T* source = features;
        if (stages_per_layer == 2) {
          workers[0].run(stages[i], source, bottleneck.data());
          source = bottleneck.data();
        }
        const size_t last = i + stages_per_layer - 1;
        workers[stages_per_layer - 1].run(stages[last], source, features + channels * input.pixels);
        channels += stages[last].outputs;
      }
      if (has_transition) workers.back().run(stages.back(), features, output.at(g, 0));
    }
  });
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(evaluate, ffi::Ffi::Bind()
                              .Ctx<ffi::ThreadPool>()
                              .Attr<int64_t>("height")
                              .Attr<int64_t>("width")
                              .Attr<double>("epsilon")
                              .Attr<int64_t>("stages_per_layer")
                              .Attr<bool>("has_transition")
                              .Arg<ffi::AnyBuffer>()  // x [G, C, P]
                              .RemainingArgs()
                              .Ret<ffi::AnyBuffer>());  // features [G, D, P] or what follows

}  // namespace densenet
