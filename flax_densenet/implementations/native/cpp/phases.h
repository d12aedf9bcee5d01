// An image as a convolution at stride 2 reads it.

#pragma once

#include <cstdint>
#include <vector>

#include "planes.h"

namespace densenet {

constexpr int kStemKernel = 7;

inline int64_t half(int64_t size) { return (size + 1) / 2; }

// The maps of the stem, with padding for both its convolution and its pooling.
inline Planes stem_planes(int64_t height, int64_t width) {
  return {1, half(height), half(width), 2};
}

// The polyphase form of an image: its even and odd rows and columns in four planes per channel.
//
// At stride 2 each tap of the convolution reads one of the four, at an offset that is the same for
// all pixels.
template <typename T>
class ImagePhases {
 public:
  ImagePhases(int64_t height, int64_t width, int channels)
      : height_(height),
        width_(width),
        channels_(channels),
        planes_(stem_planes(height, width)),
        memory_(planes_, 4 * channels) {
    for (int ky = 0; ky < kStemKernel; ++ky) {
      for (int kx = 0; kx < kStemKernel; ++kx) {
        for (int c = 0; c < channels; ++c) {
          const int y = ky - kStemKernel / 2, x = kx - kStemKernel / 2;
          offsets_.push_back(plane(c, y, x) * memory_.pitch() + (y >> 1) * planes_.row_pitch() +
                             (x >> 1));
        }
      }
    }
  }

  const Planes& planes() const { return planes_; }
  const T* start() { return memory_[0]; }
  const std::vector<int64_t>& offsets() const { return offsets_; }  // of taps [7, 7, channels]

  // Reads [height, width, channels].
  void load(const T* image) {
    for (int64_t y = 0; y < height_; ++y) {
      const int64_t row = planes_.row(0, y / 2);
      for (int c = 0; c < channels_; ++c) {
        const T* from = image + y * width_ * channels_ + c;
        T *even = memory_[plane(c, y, 0)] + row, *odd = memory_[plane(c, y, 1)] + row;
        for (int64_t x = 0; x < width_; x += 2) even[x / 2] = from[x * channels_];
        for (int64_t x = 1; x < width_; x += 2) odd[x / 2] = from[x * channels_];
      }
    }
  }

 private:
  int plane(int channel, int64_t y, int64_t x) const {
    return ((y & 1) * 2 + (x & 1)) * channels_ + channel;
  }

  int64_t height_, width_;
  int channels_;
  Planes planes_;
  Scratch<T> memory_;
  std::vector<int64_t> offsets_;
};

}  // namespace densenet
