// The stem in training and in evaluation.
//
// Axes: B images, H and W their height and width, C their channels, K channels of the stem, P
// pixels after the convolution, h and w height and width after pooling.

#include "stem.h"

#include <cstdint>
#include <vector>

namespace densenet {
namespace {

template <typename T>
ffi::Error stem(ffi::ThreadPool pool, double epsilon, ffi::AnyBuffer image, ffi::AnyBuffer scale,
                ffi::AnyBuffer bias, ffi::AnyBuffer kernel, ffi::Result<ffi::AnyBuffer> y,
                ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> var,
                ffi::Result<ffi::AnyBuffer> pooled, ffi::Result<ffi::AnyBuffer> winners) {
  const Stem<T> stem(image, kernel);
  const Maps<uint8_t> places = stem.template pooled<uint8_t>(*winners);
  const Maps<T> convolved = maps(data<T>(y), y->dimensions());
  const Maps<T> result = stem.template pooled<T>(*pooled);
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  Moments<T> moments(stem.images, stem.outputs);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    Phases<T> phases = stem.phases();
    Scratch<T> tile(stem.planes(), kRegisterChannels);
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      stem.convolve(phases, tile, convolved.at(b, 0));
      moments.take(b, convolved.at(b, 0), convolved.pixels);
    }
  });
  moments.merge(statistics);
  const Normalization<T> norm(stem.outputs, statistics, data<T>(scale), data<T>(bias), epsilon);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    MaximumPooling<T> pooling(stem.planes());
    for (int64_t b = first; b < end; ++b) {
      stem.pool(pooling, norm, convolved.at(b, 0), result.at(b, 0), places.at(b, 0));
    }
  });
  return ffi::Error::Success();
}

template <typename T>
ffi::Error stem_evaluate(ffi::ThreadPool pool, double epsilon, ffi::AnyBuffer image,
                         ffi::AnyBuffer scale, ffi::AnyBuffer bias, ffi::AnyBuffer kernel,
                         ffi::AnyBuffer mean, ffi::AnyBuffer var,
                         ffi::Result<ffi::AnyBuffer> pooled) {
  const Stem<T> stem(image, kernel);
  const Maps<T> result = stem.template pooled<T>(*pooled);
  const Normalization<T> norm(stem.outputs, {data<T>(mean), data<T>(var)}, data<T>(scale),
                              data<T>(bias), epsilon);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    Phases<T> phases = stem.phases();
    Scratch<T> tile(stem.planes(), kRegisterChannels);
    MaximumPooling<T> pooling(stem.planes());
    std::vector<T> convolved(stem.outputs * stem.pixels());
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      stem.convolve(phases, tile, convolved.data());
      stem.pool(pooling, norm, convolved.data(), result.at(b, 0), nullptr);
    }
  });
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(stem, ffi::Ffi::Bind()
                          .Ctx<ffi::ThreadPool>()
                          .Attr<double>("epsilon")
                          .Arg<ffi::AnyBuffer>()    // image [B, H, W, C]
                          .Arg<ffi::AnyBuffer>()    // scale [K]
                          .Arg<ffi::AnyBuffer>()    // bias [K]
                          .Arg<ffi::AnyBuffer>()    // kernel [7, 7, C, K]
                          .Ret<ffi::AnyBuffer>()    // convolved [B, K, P]
                          .Ret<ffi::AnyBuffer>()    // its mean [K]
                          .Ret<ffi::AnyBuffer>()    // its variance [K]
                          .Ret<ffi::AnyBuffer>()    // pooled [B, K, h, w]
                          .Ret<ffi::AnyBuffer>());  // places of the largest, bytes [B, K, h, w]

DENSENET_DEFINE(stem_evaluate, ffi::Ffi::Bind()
                                   .Ctx<ffi::ThreadPool>()
                                   .Attr<double>("epsilon")
                                   .Arg<ffi::AnyBuffer>()    // image [B, H, W, C]
                                   .Arg<ffi::AnyBuffer>()    // scale [K]
                                   .Arg<ffi::AnyBuffer>()    // bias [K]
                                   .Arg<ffi::AnyBuffer>()    // kernel [7, 7, C, K]
                                   .Arg<ffi::AnyBuffer>()    // running mean [K]
                                   .Arg<ffi::AnyBuffer>()    // running variance [K]
                                   .Ret<ffi::AnyBuffer>());  // pooled [B, K, h, w]

}  // namespace densenet
