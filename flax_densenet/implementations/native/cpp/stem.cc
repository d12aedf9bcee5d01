// The stem in training and in evaluation: `stem_forward` and `stem_evaluate`. Axes as in stem.h.

#include "stem.h"

#include <cstdint>
#include <vector>

namespace densenet {
namespace {

template <typename T>
ffi::Error stem_forward(ffi::ThreadPool pool, double epsilon, Array<T, 4> image, Array<T, 1> scale,
                        Array<T, 1> bias, Array<T, 4> kernel, Output<T, 3> convolved,
                        Output<T, 1> mean, Output<T, 1> var, Output<T, 4> pooled,
                        ffi::Result<Winners> winners) {
  const StemInputs<T> inputs{image, scale, bias, kernel};
  Checks checks("stem_forward");
  inputs.check(checks);
  inputs.check_convolved(checks, "convolved", *convolved);
  inputs.check_vector(checks, "mean", *mean);
  inputs.check_vector(checks, "var", *var);
  inputs.check_pooled(checks, "pooled", *pooled);
  inputs.check_pooled(checks, "winners", *winners);
  if (checks.failed()) return checks.error();

  const Stem<T> stem(inputs);
  const Maps<T> x = stem.convolved(*convolved);
  const Maps<T> y = stem.pooled(*pooled);
  const Maps<uint8_t> places = stem.winners(*winners);
  const Statistics<T> statistics{mean->typed_data(), var->typed_data()};
  Moments<T> moments(stem.images, stem.outputs);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    ImagePhases<T> phases = stem.phases();
    Scratch<T> tile(stem.planes(), kRegisterChannels);
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      stem.convolve(phases, tile, x.at(b, 0));
      moments.take(b, x.at(b, 0), x.pixels);
    }
  });
  moments.merge(statistics);
  const Normalization<T> norm(stem.outputs, statistics, scale.typed_data(), bias.typed_data(),
                              epsilon);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    MaximumPooling<T> pooling(stem.planes());
    for (int64_t b = first; b < end; ++b) {
      stem.pool(pooling, norm, x.at(b, 0), y.at(b, 0), places.at(b, 0));
    }
  });
  return ffi::Error::Success();
}

template <typename T>
ffi::Error stem_evaluate(ffi::ThreadPool pool, double epsilon, Array<T, 4> image, Array<T, 1> scale,
                         Array<T, 1> bias, Array<T, 4> kernel, Array<T, 1> running_mean,
                         Array<T, 1> running_var, Output<T, 4> pooled) {
  const StemInputs<T> inputs{image, scale, bias, kernel};
  Checks checks("stem_evaluate");
  inputs.check(checks);
  inputs.check_vector(checks, "running_mean", running_mean);
  inputs.check_vector(checks, "running_var", running_var);
  inputs.check_pooled(checks, "pooled", *pooled);
  if (checks.failed()) return checks.error();

  const Stem<T> stem(inputs);
  const Maps<T> y = stem.pooled(*pooled);
  const Normalization<T> norm(stem.outputs, {running_mean.typed_data(), running_var.typed_data()},
                              scale.typed_data(), bias.typed_data(), epsilon);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    ImagePhases<T> phases = stem.phases();
    Scratch<T> tile(stem.planes(), kRegisterChannels);
    MaximumPooling<T> pooling(stem.planes());
    std::vector<T> convolved(stem.outputs * stem.pixels());
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      stem.convolve(phases, tile, convolved.data());
      stem.pool(pooling, norm, convolved.data(), y.at(b, 0), nullptr);
    }
  });
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(stem_forward, ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<double>("epsilon")
                                  .Arg<Array<T, 4>>()  // image [B, H, W, C]
                                  .Arg<Array<T, 1>>()  // scale [K]
                                  .Arg<Array<T, 1>>()  // bias [K]
                                  .Arg<Array<T, 4>>()  // kernel [7, 7, C, K]
                                  .Ret<Array<T, 3>>()  // convolved [B, K, P]
                                  .Ret<Array<T, 1>>()  // mean [K]
                                  .Ret<Array<T, 1>>()  // var [K]
                                  .Ret<Array<T, 4>>()  // pooled [B, K, h, w]
                                  .Ret<Winners>());    // winners [B, K, h, w]

DENSENET_DEFINE(stem_evaluate, ffi::Ffi::Bind()
                                   .Ctx<ffi::ThreadPool>()
                                   .Attr<double>("epsilon")
                                   .Arg<Array<T, 4>>()    // image [B, H, W, C]
                                   .Arg<Array<T, 1>>()    // scale [K]
                                   .Arg<Array<T, 1>>()    // bias [K]
                                   .Arg<Array<T, 4>>()    // kernel [7, 7, C, K]
                                   .Arg<Array<T, 1>>()    // running_mean [K]
                                   .Arg<Array<T, 1>>()    // running_var [K]
                                   .Ret<Array<T, 4>>());  // pooled [B, K, h, w]

}  // namespace densenet
