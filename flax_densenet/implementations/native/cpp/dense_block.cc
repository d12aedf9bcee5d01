// Dense blocks in training: `dense_block_forward` and `dense_block_backward`.
//
// Axes: G chunks, C channels before the block, D after it, P pixels of a chunk, L layers, K
// channels of a bottleneck; K is 0 in blocks without bottlenecks.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block_arguments.h"

namespace densenet {
namespace {

constexpr PackLayout kLayout{/*has_running=*/false};

int stages_per_layer(int64_t bottleneck) { return bottleneck > 0 ? 2 : 1; }

template <typename T>
ffi::Error dense_block_forward(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                               bool keep_bottlenecks, Array<T, 3> x, ffi::RemainingArgs parameters,
                               Output<T, 3> features, Output<T, 1> mean, Output<T, 1> var,
                               Output<T, 2> inner_mean, Output<T, 2> inner_var,
                               Output<T, 4> bottlenecks) {
  const auto shape = x.dimensions();
  const int64_t chunks = shape[0], pixels = shape[2];
  const int64_t layers = inner_mean->dimensions()[0], inner = inner_mean->dimensions()[1];
  Checks checks("dense_block_forward");
  checks.shape("x", x, {kAny, kAny, kAny});
  checks.images("x", pixels, height, width);
  checks.at_least("number of layers in inner_mean", layers, 1);
  checks.count("parameters", parameters.size(),
               layers * stages_per_layer(inner) * kLayout.arrays_per_stage());
  const auto [stages, joined] =
      read_block<T>(checks, parameters, kLayout, layers, stages_per_layer(inner), shape[1], inner);
  checks.shape("features", *features, {chunks, joined, pixels});
  checks.shape("mean", *mean, {joined});
  checks.shape("var", *var, {joined});
  checks.shape("inner_mean", *inner_mean, {layers, inner});
  checks.shape("inner_var", *inner_var, {layers, inner});
  checks.shape("bottlenecks", *bottlenecks, {keep_bottlenecks ? layers : 1, chunks, inner, pixels});
  if (checks.failed()) return checks.error();

  Executor<T> executor(pool, chunks, planes(pixels, height, width), epsilon);
  const Maps<T> input = maps<T>(x);
  const Maps<T> all = maps<T>(*features);
  const Statistics<T> statistics{mean->typed_data(), var->typed_data()};
  Statistics<T> inner_statistics{inner_mean->typed_data(), inner_var->typed_data()};
  Maps<T> bottleneck = maps<T>(*bottlenecks);

  executor.for_parts([&](int, int64_t first, int64_t end) {
    for (int64_t g = first; g < end; ++g) copy_chunk(input, all, g);
  });
  executor.observe(all, input.channels, statistics);
  int64_t channels = input.channels;
  for (size_t i = 0; i < stages.size(); ++i) {
    Maps<T> source = all;
    Statistics<T> source_statistics = statistics;
    if (inner > 0) {
      executor.forward(executor.stage(stages[i], statistics), all, bottleneck, 0, inner_statistics);
      source = bottleneck;
      source_statistics = inner_statistics;
      inner_statistics = inner_statistics.after(inner);
      if (keep_bottlenecks) bottleneck.data += chunks * inner * pixels;
      ++i;
    }
    executor.forward(executor.stage(stages[i], source_statistics), source, all, channels,
                     statistics.after(channels));
    channels += stages[i].shape.outputs;
  }
  return ffi::Error::Success();
}

// Adds to the gradients of all maps what they get through their statistics, and writes those of the
// block's input.
template <typename T>
void write_grad_x(Executor<T>& executor, Maps<T> all, Maps<T> grad_all, Maps<T> grad_x,
                  const StatisticsTerm<T>& term) {
  executor.for_parts([&](int, int64_t first, int64_t end) {
    for (int64_t g = first; g < end; ++g) {
      for (int64_t c = 0; c < grad_x.channels; ++c) {
        const T *value = all.at(g, c), *grad = grad_all.at(g, c);
        T* to = grad_x.at(g, c);
        const T center = term.mean[c], constant = term.constant[c], slope = term.slope[c];
        for (int64_t p = 0; p < all.pixels; ++p) {
          to[p] = grad[p] + (constant + slope * (value[p] - center));
        }
      }
    }
  });
}

// The gradients of the stages' parameters, which have the parameters' shapes.
template <typename T>
std::vector<StageGradients<T>> read_gradients(Checks& checks, const ffi::RemainingRets& pack,
                                              const std::vector<StageParameters<T>>& stages) {
  std::vector<StageGradients<T>> gradients;
  for (int64_t stage = 0; stage < static_cast<int64_t>(stages.size()); ++stage) {
    const auto& [size, inputs, outputs] = stages[stage].shape;
    const auto scale = checks.output<T, 1>(pack, 3 * stage, {"grad_scale", stage}, {inputs});
    const auto bias = checks.output<T, 1>(pack, 3 * stage + 1, {"grad_bias", stage}, {inputs});
    const auto kernel = checks.output<T, 4>(pack, 3 * stage + 2, {"grad_kernel", stage},
                                            {size, size, inputs, outputs});
    if (checks.failed()) break;
    gradients.push_back({scale->typed_data(), bias->typed_data(), kernel->typed_data()});
  }
  return gradients;
}

template <typename T>
ffi::Error dense_block_backward(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                                bool keep_bottlenecks, Array<T, 3> features, Array<T, 1> mean,
                                Array<T, 1> var, Array<T, 2> inner_mean, Array<T, 2> inner_var,
                                Array<T, 4> bottlenecks, Array<T, 3> grad_features,
                                Array<T, 1> grad_mean, Array<T, 1> grad_var,
                                Array<T, 2> grad_inner_mean, Array<T, 2> grad_inner_var,
                                ffi::RemainingArgs parameters, Output<T, 3> grad_x,
                                Output<T, 3> grad_maps, Output<T, 3> recomputed,
                                Output<T, 3> grad_bottleneck, ffi::RemainingRets grad_parameters) {
  const auto shape = features.dimensions();
  const int64_t chunks = shape[0], pixels = shape[2];
  const int64_t layers = inner_mean.dimensions()[0], inner = inner_mean.dimensions()[1];
  Checks checks("dense_block_backward");
  checks.shape("features", features, {kAny, kAny, kAny});
  checks.images("features", pixels, height, width);
  checks.at_least("number of layers in inner_mean", layers, 1);
  checks.count("parameters", parameters.size(),
               layers * stages_per_layer(inner) * kLayout.arrays_per_stage());
  checks.count("grad_parameters", grad_parameters.size(), parameters.size());
  checks.shape("grad_x", *grad_x, {chunks, kAny, pixels});
  const auto [stages, joined] = read_block<T>(
      checks, parameters, kLayout, layers, stages_per_layer(inner), grad_x->dimensions()[1], inner);
  const auto gradients = read_gradients(checks, grad_parameters, stages);
  checks.shape("features", features, {chunks, joined, pixels});
  checks.shape("mean", mean, {joined});
  checks.shape("var", var, {joined});
  checks.shape("inner_var", inner_var, {layers, inner});
  checks.shape("bottlenecks", bottlenecks, {keep_bottlenecks ? layers : 0, chunks, inner, pixels});
  checks.shape("grad_features", grad_features, {chunks, joined, pixels});
  checks.shape("grad_mean", grad_mean, {joined});
  checks.shape("grad_var", grad_var, {joined});
  checks.shape("grad_inner_mean", grad_inner_mean, {layers, inner});
  checks.shape("grad_inner_var", grad_inner_var, {layers, inner});
  checks.shape("grad_maps", *grad_maps, {chunks, joined, pixels});
  checks.shape("recomputed", *recomputed, {keep_bottlenecks ? 0 : chunks, inner, pixels});
  checks.shape("grad_bottleneck", *grad_bottleneck, {chunks, inner, pixels});
  if (checks.failed()) return checks.error();

  Executor<T> executor(pool, chunks, planes(pixels, height, width), epsilon);
  const Maps<T> all = maps<T>(features);
  const Maps<T> grad_all = maps<T>(*grad_maps);
  if (grad_all.data != grad_features.typed_data()) {  // without the alias
    std::copy_n(grad_features.typed_data(), grad_features.element_count(), grad_all.data);
  }
  const Maps<T> grad_inner_maps = maps<T>(*grad_bottleneck);
  const Statistics<T> statistics{mean.typed_data(), var.typed_data()};
  const Statistics<T> inner_statistics{inner_mean.typed_data(), inner_var.typed_data()};

  auto mean_sums = copy(grad_mean), var_sums = copy(grad_var);
  auto inner_mean_sums = copy(grad_inner_mean), inner_var_sums = copy(grad_inner_var);
  const Statistics<T> grad_statistics{mean_sums.data(), var_sums.data()};
  const Statistics<T> grad_inner{inner_mean_sums.data(), inner_var_sums.data()};

  int64_t channels = joined;
  for (int64_t layer = layers - 1; layer >= 0; --layer) {
    const int64_t last = (layer + 1) * stages_per_layer(inner) - 1;
    channels -= stages[last].shape.outputs;
    const StatisticsTerm<T> term(stages[last].shape.outputs, statistics.after(channels),
                                 grad_statistics.after(channels), executor.count());
    const OutputMaps<T> output{all, grad_all, channels, &term};
    if (inner == 0) {
      executor.backward(executor.stage(stages[last], statistics), output,
                        {all, grad_all, WriteMode::kAdd, grad_statistics}, gradients[last]);
      continue;
    }
    const Statistics<T> read = inner_statistics.after(layer * inner);
    const Statistics<T> grad_read = grad_inner.after(layer * inner);
    Maps<T> bottleneck = grad_inner_maps;
    if (keep_bottlenecks) {
      bottleneck.data = bottlenecks.typed_data() + layer * chunks * inner * pixels;
    } else {
      bottleneck.data = recomputed->typed_data();
      executor.forward(executor.stage(stages[last - 1], statistics), all, bottleneck, 0,
                       [](int64_t) {});
    }
    executor.backward(executor.stage(stages[last], read), output,
                      {bottleneck, grad_inner_maps, WriteMode::kReplace, grad_read},
                      gradients[last]);
    const StatisticsTerm<T> inner_term(inner, read, grad_read, executor.count());
    executor.backward(executor.stage(stages[last - 1], statistics),
                      {bottleneck, grad_inner_maps, 0, &inner_term},
                      {all, grad_all, WriteMode::kAdd, grad_statistics}, gradients[last - 1]);
  }
  const StatisticsTerm<T> term(channels, statistics, grad_statistics, executor.count());
  write_grad_x(executor, all, grad_all, maps<T>(*grad_x), term);
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(dense_block_forward,
                ffi::Ffi::Bind()
                    .Ctx<ffi::ThreadPool>()
                    .Attr<int64_t>("height")
                    .Attr<int64_t>("width")
                    .Attr<double>("epsilon")
                    .Attr<bool>("keep_bottlenecks")
                    .Arg<Array<T, 3>>()    // x [G, C, P]
                    .RemainingArgs()       // parameters: 3 arrays of each stage (PackLayout)
                    .Ret<Array<T, 3>>()    // features [G, D, P]
                    .Ret<Array<T, 1>>()    // mean [D]
                    .Ret<Array<T, 1>>()    // var [D]
                    .Ret<Array<T, 2>>()    // inner_mean [L, K]
                    .Ret<Array<T, 2>>()    // inner_var [L, K]
                    .Ret<Array<T, 4>>());  // bottlenecks [L or, if they are not kept, 1, G, K, P]

DENSENET_DEFINE(
    dense_block_backward,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Attr<int64_t>("height")
        .Attr<int64_t>("width")
        .Attr<double>("epsilon")
        .Attr<bool>("keep_bottlenecks")
        .Arg<Array<T, 3>>()  // features [G, D, P]
        .Arg<Array<T, 1>>()  // mean [D]
        .Arg<Array<T, 1>>()  // var [D]
        .Arg<Array<T, 2>>()  // inner_mean [L, K]
        .Arg<Array<T, 2>>()  // inner_var [L, K]
        .Arg<Array<T, 4>>()  // bottlenecks [L or, if they are not kept, 0, G, K, P]
        .Arg<Array<T, 3>>()  // grad_features [G, D, P]; its memory may be that of grad_maps
        .Arg<Array<T, 1>>()  // grad_mean [D]
        .Arg<Array<T, 1>>()  // grad_var [D]
        .Arg<Array<T, 2>>()  // grad_inner_mean [L, K]
        .Arg<Array<T, 2>>()  // grad_inner_var [L, K]
        .RemainingArgs()     // parameters: 3 arrays of each stage (PackLayout)
        .Ret<Array<T, 3>>()  // grad_x [G, C, P]
        .Ret<Array<T, 3>>()  // grad_maps [G, D, P]: scratch, gradients of all maps
        .Ret<Array<T, 3>>()  // recomputed [G or, if they are kept, 0, K, P]: scratch, a bottleneck
        .Ret<Array<T, 3>>()  // grad_bottleneck [G, K, P]: scratch
        .RemainingRets());   // grad_parameters: as parameters

}  // namespace densenet
