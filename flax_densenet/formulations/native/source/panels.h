// The pixels that are multiplied at a time, of all channels behind one another.
//
// A tile of results reads two vectors of each channel. In planes they lie a plane apart, each in
// another page of memory; in panels they are one stream.

#pragma once

#include <cstdint>
#include <memory>

#include "products.h"

namespace densenet {

template <typename T>
class Panels {
 public:
  // For planes of such a span.
  Panels(int channels, int64_t span)
      : step_(channels | 1), count_((span + kPanel<T> - 1) / kPanel<T>),
        memory_(new T[count_ * kPanel<T> * step_ + kLanes<T>]()), start_(aligned(memory_.get())) {}

  // Takes a channel from its plane.
  void write(int channel, const T* plane) {
    T* to = start_ + channel * kPanel<T>;
    for (int64_t i = 0; i < count_; ++i, plane += kPanel<T>, to += kPanel<T> * step_) {
      for (int v = 0; v < kPanel<T>; v += kLanes<T>) store(to + v, load(plane + v));
    }
  }

  Pixels<T> pixels() const { return {start_, kPanel<T>, step_}; }

 private:
  int64_t step_;  // of an odd number of channels, since caches collide at multiples of 4096 bytes
  int64_t count_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

}  // namespace densenet
