// The stem of the ImageNet networks: 7x7 convolution at stride 2, normalization, ReLU and 3x3
// maximum pooling at stride 2, one image at a time.
//
// Axes: B images, H and W their height and width, C their channels, K channels of the stem, P
// pixels after the convolution, h and w height and width after pooling.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arguments.h"
#include "maps.h"
#include "maximum_pooling.h"
#include "parallel.h"
#include "phases.h"

namespace densenet {

// Which pixel of a window is the largest, for each pixel after pooling [B, K, h, w].
using Winners = ffi::Buffer<ffi::U8, 4>;

// The arrays that all handlers of the stem read.
template <typename T>
struct StemInputs {
  Array<T, 4> image;
  Array<T, 1> scale, bias;
  Array<T, 4> kernel;

  int64_t images() const { return image.dimensions()[0]; }
  int64_t height() const { return image.dimensions()[1]; }
  int64_t width() const { return image.dimensions()[2]; }
  int64_t channels() const { return image.dimensions()[3]; }
  int64_t outputs() const { return kernel.dimensions()[3]; }
  int64_t convolved_pixels() const { return half(height()) * half(width()); }

  void check(Checks& checks) const {
    checks.shape("image", image, {kAny, kAny, kAny, kAny});
    checks.shape("kernel", kernel, {kStemKernel, kStemKernel, channels(), kAny});
    checks.shape("scale", scale, {outputs()});
    checks.shape("bias", bias, {outputs()});
  }

  template <typename Buffer>
  void check_convolved(Checks& checks, const char* name, const Buffer& array) const {
    checks.shape(name, array, {images(), outputs(), convolved_pixels()});
  }
  template <typename Buffer>
  void check_pooled(Checks& checks, const char* name, const Buffer& array) const {
    checks.shape(name, array, {images(), outputs(), half(half(height())), half(half(width()))});
  }
  template <typename Buffer>
  void check_vector(Checks& checks, const char* name, const Buffer& array) const {
    checks.shape(name, array, {outputs()});
  }
};

template <typename T>
struct Stem {
  int64_t images, height, width;
  int channels, outputs;
  const T *image, *kernel;
  std::vector<T> weights;  // in the order in which `convolve` reads them

  explicit Stem(const StemInputs<T>& inputs)
      : images(inputs.images()),
        height(inputs.height()),
        width(inputs.width()),
        channels(inputs.channels()),
        outputs(inputs.outputs()),
        image(inputs.image.typed_data()),
        kernel(inputs.kernel.typed_data()) {
    for (int first = 0; first < outputs; first += kRegisterChannels) {
      for (int tap = 0; tap < taps(); ++tap) {
        for (int k = first; k < std::min(first + kRegisterChannels, outputs); ++k) {
          weights.push_back(kernel[tap * outputs + k]);
        }
      }
    }
  }

  int taps() const { return kStemKernel * kStemKernel * channels; }
  int64_t pixels() const { return half(height) * half(width); }
  int64_t pooled_pixels() const { return half(half(height)) * half(half(width)); }

  // From arrays [B, K, P] and [B, K, h, w].
  Maps<T> convolved(const Array<T, 3>& array) const {
    return {array.typed_data(), outputs, pixels()};
  }
  Maps<T> pooled(const Array<T, 4>& array) const {
    return {array.typed_data(), outputs, pooled_pixels()};
  }
  Maps<uint8_t> winners(const Winners& array) const {
    return {array.typed_data(), outputs, pooled_pixels()};
  }

  Planes planes() const { return stem_planes(height, width); }

  ImagePhases<T> phases() const { return ImagePhases<T>(height, width, channels); }
  void load(ImagePhases<T>& phases, int64_t index) const {
    phases.load(image + index * height * width * channels);
  }

  // Writes y [outputs, pixels].
  void convolve(ImagePhases<T>& phases, Scratch<T>& tile, T* y) const {
    const int64_t pixels = this->pixels();
    for (int first = 0; first < outputs; first += kRegisterChannels) {
      const int size = std::min(kRegisterChannels, outputs - first);
      const T* weights = &this->weights[int64_t{first} * taps()];
      densenet::convolve<T>({phases.start(), 0, 1}, 1, phases.offsets(), weights,
                            int64_t{size} * taps(), tile[0], tile.pitch(), size,
                            planes().template span<T>(), WriteMode::kReplace);
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
