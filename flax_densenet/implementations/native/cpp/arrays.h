// What XLA hands over, as the types of this library. All arrays of a call are of one type T: the
// Python side sees to that.

#pragma once

#include <cstdint>
#include <vector>

#include "passes.h"
#include "xla/ffi/api/ffi.h"

namespace densenet {

namespace ffi = xla::ffi;

template <typename T>
T* data(const ffi::AnyBuffer& buffer) {
  return static_cast<T*>(buffer.untyped_data());
}

template <typename T>
T* data(ffi::Result<ffi::AnyBuffer>& buffer) {
  return static_cast<T*>(buffer->untyped_data());
}

template <typename T>
std::vector<T> copy(const ffi::AnyBuffer& buffer) {
  return std::vector<T>(data<T>(buffer), data<T>(buffer) + buffer.element_count());
}

// From an array [..., chunks, channels, pixels].
template <typename T>
Maps<T> maps(T* data, ffi::AnyBuffer::Dimensions shape) {
  const size_t rank = shape.size();
  return {data, shape[rank - 2], shape[rank - 1]};
}

template <typename T>
StageParameters<T> parameters(const ffi::AnyBuffer& scale, const ffi::AnyBuffer& bias,
                              const ffi::AnyBuffer& kernel) {
  const auto shape = kernel.dimensions();
  return {data<T>(scale),
          data<T>(bias),
          data<T>(kernel),
          static_cast<int>(shape[0]),
          static_cast<int>(shape[2]),
          static_cast<int>(shape[3])};
}

// Parameters come layer by layer as they lie in the network: scale [c], bias [c] and kernel
// [size, size, c, k] of each stage, of which a layer has two with a bottleneck. In evaluation
// running mean and variance follow.
template <typename T>
std::vector<StageParameters<T>> parameters(ffi::RemainingArgs& args, int arrays_per_stage) {
  std::vector<StageParameters<T>> stages;
  for (size_t i = 0; i < args.size(); i += arrays_per_stage) {
    stages.push_back(parameters<T>(*args.get<ffi::AnyBuffer>(i), *args.get<ffi::AnyBuffer>(i + 1),
                                   *args.get<ffi::AnyBuffer>(i + 2)));
  }
  return stages;
}

// Those of a chunk with so many pixels.
inline Planes planes(int64_t pixels, int64_t height, int64_t width) {
  return {pixels / (height * width), height, width, 0};
}

template <typename T>
void copy_chunk(Maps<T> from, Maps<T> to, int64_t chunk) {
  std::copy_n(from.at(chunk, 0), from.channels * from.pixels, to.at(chunk, 0));
}

}  // namespace densenet

// Makes a function template known under its name, for both types.
#define DENSENET_DEFINE(name, binding)                                 \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_float32, name<float>, binding); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_float64, name<double>, binding)
