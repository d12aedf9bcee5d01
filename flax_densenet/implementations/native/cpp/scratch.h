// Memory of one thread for padded planes.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "planes.h"

namespace densenet {

// Padded planes, whose padding is zero, or what is asked for.
template <typename T>
class Scratch {
 public:
  Scratch(const Planes& planes, int channels, T padding = 0)
      : pitch_(planes.pitch<T>()),
        memory_(new T[pitch_ * channels + planes.guard() + kLanes<T>]),
        start_(aligned(memory_.get() + planes.guard())) {
    if (planes.reach > 0) {
      std::fill(memory_.get(), start_ + pitch_ * channels, padding);
      return;
    }
    for (int c = 0; c < channels; ++c) {
      std::fill((*this)[c] + planes.pixels(), (*this)[c] + pitch_, padding);
    }
  }

  T* operator[](int channel) { return start_ + channel * pitch_; }
  int64_t pitch() const { return pitch_; }

 private:
  int64_t pitch_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

}  // namespace densenet
