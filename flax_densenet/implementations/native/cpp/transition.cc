// A transition in training, and its gradient.
//
// Axes: G chunks, C channels before it, K behind it, P pixels of a chunk, p those after pooling.

#include <cstdint>
#include <utility>
#include <vector>

#include "arrays.h"

namespace densenet {
namespace {

template <typename T>
ffi::Error transition(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                      ffi::AnyBuffer x, ffi::AnyBuffer mean, ffi::AnyBuffer var,
                      ffi::AnyBuffer scale, ffi::AnyBuffer bias, ffi::AnyBuffer kernel,
                      ffi::Result<ffi::AnyBuffer> y) {
  const auto shape = x.dimensions();
  Passes<T> passes(pool, shape[0], planes(shape[2], height, width), epsilon);
  auto stage = passes.transition(parameters<T>(scale, bias, kernel),
                                 Statistics<T>{data<T>(mean), data<T>(var)});
  passes.forward(std::move(stage), maps(data<T>(x), shape), maps(data<T>(y), y->dimensions()), 0,
                 [](int64_t) {});
  return ffi::Error::Success();
}

template <typename T>
ffi::Error transition_gradient(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                               ffi::AnyBuffer x, ffi::AnyBuffer mean, ffi::AnyBuffer var,
                               ffi::AnyBuffer scale, ffi::AnyBuffer bias, ffi::AnyBuffer kernel,
                               ffi::AnyBuffer of_y, ffi::Result<ffi::AnyBuffer> of_x,
                               ffi::Result<ffi::AnyBuffer> of_mean,
                               ffi::Result<ffi::AnyBuffer> of_var,
                               ffi::Result<ffi::AnyBuffer> of_scale,
                               ffi::Result<ffi::AnyBuffer> of_bias,
                               ffi::Result<ffi::AnyBuffer> of_kernel) {
  const auto shape = x.dimensions();
  Passes<T> passes(pool, shape[0], planes(shape[2], height, width), epsilon);
  auto stage = passes.transition(parameters<T>(scale, bias, kernel),
                                 Statistics<T>{data<T>(mean), data<T>(var)});
  const Statistics<T> of_statistics{data<T>(of_mean), data<T>(of_var)};
  std::fill_n(of_statistics.mean, stage.inputs, T(0));
  std::fill_n(of_statistics.var, stage.inputs, T(0));
  const Maps<T> given = maps(data<T>(of_y), of_y.dimensions());
  passes.backward(std::move(stage), maps(data<T>(x), shape), given, given, 0,
                  maps(data<T>(of_x), of_x->dimensions()), false, nullptr, of_statistics,
                  {data<T>(of_scale), data<T>(of_bias), data<T>(of_kernel)});
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(transition, ffi::Ffi::Bind()
                                .Ctx<ffi::ThreadPool>()
                                .Attr<int64_t>("height")
                                .Attr<int64_t>("width")
                                .Attr<double>("epsilon")
                                .Arg<ffi::AnyBuffer>()    // x [G, C, P]
                                .Arg<ffi::AnyBuffer>()    // its mean [C]
                                .Arg<ffi::AnyBuffer>()    // its variance [C]
                                .Arg<ffi::AnyBuffer>()    // scale [C]
                                .Arg<ffi::AnyBuffer>()    // bias [C]
                                .Arg<ffi::AnyBuffer>()    // kernel [1, 1, C, K]
                                .Ret<ffi::AnyBuffer>());  // y [G, K, p]

DENSENET_DEFINE(transition_gradient, ffi::Ffi::Bind()
                                         .Ctx<ffi::ThreadPool>()
                                         .Attr<int64_t>("height")
                                         .Attr<int64_t>("width")
                                         .Attr<double>("epsilon")
                                         .Arg<ffi::AnyBuffer>()  // what `transition` was given
                                         .Arg<ffi::AnyBuffer>()
                                         .Arg<ffi::AnyBuffer>()
                                         .Arg<ffi::AnyBuffer>()
                                         .Arg<ffi::AnyBuffer>()
                                         .Arg<ffi::AnyBuffer>()
                                         .Arg<ffi::AnyBuffer>()  // gradient for y
                                         .Ret<ffi::AnyBuffer>()  // gradients for all of these
                                         .Ret<ffi::AnyBuffer>()
                                         .Ret<ffi::AnyBuffer>()
                                         .Ret<ffi::AnyBuffer>()
                                         .Ret<ffi::AnyBuffer>()
                                         .Ret<ffi::AnyBuffer>());

}  // namespace densenet
