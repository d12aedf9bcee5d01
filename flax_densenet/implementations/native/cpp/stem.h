// The stem of the ImageNet networks: 7x7 convolution at stride 2, normalization, ReLU and 3x3
// maximum pooling at stride 2, one image at a time.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arrays.h"
#include "maximum_pooling.h"
#include "phases.h"

namespace densenet {

template <typename T>
struct Stem {
  int64_t images, height, width;
  int channels, outputs;
  const T *image, *kernel;
  std::vector<T> weights;  // in the order in which `convolve` reads them

  Stem(const ffi::AnyBuffer& image_, const ffi::AnyBuffer& kernel_)
      : images(image_.dimensions()[0]),
        height(image_.dimensions()[1]),
        width(image_.dimensions()[2]),
        channels(image_.dimensions()[3]),
        outputs(kernel_.dimensions()[3]),
        image(data<T>(image_)),
        kernel(data<T>(kernel_)) {
    for (int first = 0; first < outputs; first += kRegisterChannels) {
      for (int tap = 0; tap < taps(); ++tap) {
        for (int k = first; k < std::min(first + kRegisterChannels, outputs); ++k) {
          weights.push_back(kernel[tap * outputs + k]);
        }
      }
    }
  }

  int taps() const { return Phases<T>::kSize * Phases<T>::kSize * channels; }
  int64_t pixels() const { return half(height) * half(width); }
  int64_t pooled_pixels() const { return half(half(height)) * half(half(width)); }

  template <typename U>
  Maps<U> pooled(const ffi::AnyBuffer& buffer) const {
    return {data<U>(buffer), outputs, pooled_pixels()};
  }

  Planes planes() const { return stem_planes(height, width); }

  Phases<T> phases() const { return Phases<T>(height, width, channels); }
  void load(Phases<T>& phases, int64_t number) const {
    phases.load(image + number * height * width * channels);
  }

  // Writes y [outputs, pixels].
  void convolve(Phases<T>& phases, Scratch<T>& tile, T* y) const {
    const int64_t pixels = this->pixels();
    for (int first = 0; first < outputs; first += kRegisterChannels) {
      const int size = std::min(kRegisterChannels, outputs - first);
      const T* weights = &this->weights[int64_t{first} * taps()];
      densenet::convolve<T>({phases.start(), 0, 1}, 1, phases.offsets(), weights,
                            int64_t{size} * taps(), tile[0], tile.pitch(), size,
                            planes().template span<T>(), false);
      for (int k = 0; k < size; ++k) {
        const T* from = tile[k];
        T* to = y + (first + k) * pixels;
        planes().for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) to[dense + i] = from[padded + i];
        });
      }
    }
  }

  // Reads x [outputs, pixels], writes y and, unless it is null, winners [outputs, pooled pixels].
  void pool(MaximumPooling<T>& pooling, const Normalization<T>& norm, const T* x, T* y,
            uint8_t* winners) const {
    for (int k = 0; k < outputs; ++k) {
      const int64_t pooled = k * pooled_pixels();
      pooling.forward(norm[k], x + k * pixels(), y + pooled, winners ? winners + pooled : nullptr);
    }
  }
};

}  // namespace densenet
