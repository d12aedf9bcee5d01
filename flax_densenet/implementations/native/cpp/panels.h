// Panels: the pixels that are multiplied at a time, channel after channel.
//
// A tile of results reads two vectors of each channel. In planes, each channel is in another page
// of memory; in panels they are one stream.

#pragma once

#include <cstdint>
#include <memory>

#include "pixels.h"
#include "products.h"

namespace densenet {

template <typename T>
class Panels {
 public:
  // `pixels` are those of each channel.
  Panels(int channels, int64_t pixels)
      : step_(channels | 1),
        count_((pixels + kPanel<T> - 1) / kPanel<T>),
        memory_(new T[count_ * kPanel<T> * step_ + kLanes<T>]),
        start_(aligned(memory_.get())) {}

  // Writes f(pixels) for a channel's pixels.
  template <typename F>
  void write(int channel, const T* from, int64_t pixels, F f) {
    T* to = start_ + channel * kPanel<T>;
    for (; pixels >= kPanel<T>; pixels -= kPanel<T>, from += kPanel<T>, to += kPanel<T> * step_) {
      store_pixels<kPanel<T>>(to, f(load_pixels<kPanel<T>>(from)));
    }
    if (pixels > 0) store_pixels<kPanel<T>>(to, f(load_pixels(from, pixels)));
  }

  Pixels<T> pixels() const { return {start_, kPanel<T>, step_}; }

 private:
  int64_t step_;  // an odd number of channels: caches collide at multiples of 4096 bytes
  int64_t count_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

}  // namespace densenet
