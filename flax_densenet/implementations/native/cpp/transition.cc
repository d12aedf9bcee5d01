// Transitions in training: `transition_forward` and `transition_backward`.
//
// Axes: G chunks, C channels before it, K after it, P pixels of a chunk, p after pooling.

#include <algorithm>
#include <cstdint>
#include <utility>

#include "block_arguments.h"

namespace densenet {
namespace {

// The arrays that both handlers read.
template <typename T>
struct TransitionInputs {
  Array<T, 3> x;
  Array<T, 1> mean, var, scale, bias;
  Array<T, 4> kernel;

  int64_t chunks() const { return x.dimensions()[0]; }
  int64_t channels() const { return x.dimensions()[1]; }
  int64_t pixels() const { return x.dimensions()[2]; }
  int64_t outputs() const { return kernel.dimensions()[3]; }
  Statistics<T> statistics() const { return {mean.typed_data(), var.typed_data()}; }

  StageParameters<T> parameters() const {
    return {scale.typed_data(),
            bias.typed_data(),
            kernel.typed_data(),
            statistics(),
            {1, static_cast<int>(channels()), static_cast<int>(outputs())}};
  }

  void check(Checks& checks, int64_t height, int64_t width) const {
    checks.shape("x", x, {kAny, kAny, kAny});
    checks.at_least("height", height, 2);
    checks.at_least("width", width, 2);
    checks.images("x", pixels(), height, width);
    checks.shape("mean", mean, {channels()});
    checks.shape("var", var, {channels()});
    checks.shape("scale", scale, {channels()});
    checks.shape("bias", bias, {channels()});
    checks.shape("kernel", kernel, {1, 1, channels(), kAny});
  }
};

// Pixels of a chunk after pooling, for sizes that have been checked.
int64_t pooled_pixels(int64_t pixels, int64_t height, int64_t width) {
  return pixels / (height * width) * (height / 2) * (width / 2);
}

template <typename T>
ffi::Error transition_forward(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                              Array<T, 3> x, Array<T, 1> mean, Array<T, 1> var, Array<T, 1> scale,
                              Array<T, 1> bias, Array<T, 4> kernel, Output<T, 3> y) {
  const TransitionInputs<T> inputs{x, mean, var, scale, bias, kernel};
  Checks checks("transition_forward");
  inputs.check(checks, height, width);
  if (checks.failed()) return checks.error();
  checks.shape("y", *y,
               {inputs.chunks(), inputs.outputs(), pooled_pixels(inputs.pixels(), height, width)});
  if (checks.failed()) return checks.error();

  Executor<T> executor(pool, inputs.chunks(), planes(inputs.pixels(), height, width), epsilon);
  executor.forward(executor.transition(inputs.parameters(), inputs.statistics()), maps<T>(x),
                   maps<T>(*y), 0, [](int64_t) {});
  return ffi::Error::Success();
}

template <typename T>
ffi::Error transition_backward(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                               Array<T, 3> x, Array<T, 1> mean, Array<T, 1> var, Array<T, 1> scale,
                               Array<T, 1> bias, Array<T, 4> kernel, Array<T, 3> grad_y,
                               Output<T, 3> grad_x, Output<T, 1> grad_mean, Output<T, 1> grad_var,
                               Output<T, 1> grad_scale, Output<T, 1> grad_bias,
                               Output<T, 4> grad_kernel) {
  const TransitionInputs<T> inputs{x, mean, var, scale, bias, kernel};
  const int64_t channels = inputs.channels(), outputs = inputs.outputs();
  Checks checks("transition_backward");
  inputs.check(checks, height, width);
  if (checks.failed()) return checks.error();
  checks.shape("grad_y", grad_y,
               {inputs.chunks(), outputs, pooled_pixels(inputs.pixels(), height, width)});
  checks.shape("grad_x", *grad_x, {inputs.chunks(), channels, inputs.pixels()});
  checks.shape("grad_mean", *grad_mean, {channels});
  checks.shape("grad_var", *grad_var, {channels});
  checks.shape("grad_scale", *grad_scale, {channels});
  checks.shape("grad_bias", *grad_bias, {channels});
  checks.shape("grad_kernel", *grad_kernel, {1, 1, channels, outputs});
  if (checks.failed()) return checks.error();

  Executor<T> executor(pool, inputs.chunks(), planes(inputs.pixels(), height, width), epsilon);
  const Statistics<T> grad_statistics{grad_mean->typed_data(), grad_var->typed_data()};
  std::fill_n(grad_statistics.mean, channels, T(0));
  std::fill_n(grad_statistics.var, channels, T(0));
  // The statistics of y are computed after it, so its gradients need no term, and y is not read.
  const OutputMaps<T> output{maps<T>(grad_y), maps<T>(grad_y), 0, nullptr};
  executor.backward(executor.transition(inputs.parameters(), inputs.statistics()), output,
                    {maps<T>(x), maps<T>(*grad_x), WriteMode::kReplace, grad_statistics},
                    {grad_scale->typed_data(), grad_bias->typed_data(), grad_kernel->typed_data()});
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(transition_forward, ffi::Ffi::Bind()
                                        .Ctx<ffi::ThreadPool>()
                                        .Attr<int64_t>("height")
                                        .Attr<int64_t>("width")
                                        .Attr<double>("epsilon")
                                        .Arg<Array<T, 3>>()    // x [G, C, P]
                                        .Arg<Array<T, 1>>()    // mean [C]
                                        .Arg<Array<T, 1>>()    // var [C]
                                        .Arg<Array<T, 1>>()    // scale [C]
                                        .Arg<Array<T, 1>>()    // bias [C]
                                        .Arg<Array<T, 4>>()    // kernel [1, 1, C, K]
                                        .Ret<Array<T, 3>>());  // y [G, K, p]

DENSENET_DEFINE(transition_backward, ffi::Ffi::Bind()
                                         .Ctx<ffi::ThreadPool>()
                                         .Attr<int64_t>("height")
                                         .Attr<int64_t>("width")
                                         .Attr<double>("epsilon")
                                         .Arg<Array<T, 3>>()    // x [G, C, P]
                                         .Arg<Array<T, 1>>()    // mean [C]
                                         .Arg<Array<T, 1>>()    // var [C]
                                         .Arg<Array<T, 1>>()    // scale [C]
                                         .Arg<Array<T, 1>>()    // bias [C]
                                         .Arg<Array<T, 4>>()    // kernel [1, 1, C, K]
                                         .Arg<Array<T, 3>>()    // grad_y [G, K, p]
                                         .Ret<Array<T, 3>>()    // grad_x [G, C, P]
                                         .Ret<Array<T, 1>>()    // grad_mean [C]
                                         .Ret<Array<T, 1>>()    // grad_var [C]
                                         .Ret<Array<T, 1>>()    // grad_scale [C]
                                         .Ret<Array<T, 1>>()    // grad_bias [C]
                                         .Ret<Array<T, 4>>());  // grad_kernel [1, 1, C, K]

}  // namespace densenet
