// The stem in training, its gradient, and in evaluation.
//
// Axes: B images, H and W their height and width, C their channels, K channels of the stem, P pixels
// after the convolution, h and w height and width after pooling.

#include <cstdint>
#include <vector>

#include "arrays.h"
#include "stem.h"

namespace densenet {
namespace {

template <typename T>
struct Stem {
  int64_t images, height, width;
  int channels, outputs;
  const T *image, *kernel;
  std::vector<T> weights;  // in the order in which `convolve` reads them

  Stem(const ffi::AnyBuffer& image_, const ffi::AnyBuffer& kernel_)
      : images(image_.dimensions()[0]), height(image_.dimensions()[1]),
        width(image_.dimensions()[2]), channels(image_.dimensions()[3]),
        outputs(kernel_.dimensions()[3]), image(data<T>(image_)), kernel(data<T>(kernel_)) {
    for (int first = 0; first < outputs; first += kTileChannels) {
      for (int tap = 0; tap < taps(); ++tap) {
        for (int k = first; k < std::min(first + kTileChannels, outputs); ++k) {
          weights.push_back(kernel[tap * outputs + k]);
        }
      }
    }
  }

  int taps() const { return Phases<T>::kSize * Phases<T>::kSize * channels; }
  int64_t pixels() const { return half(height) * half(width); }
  int64_t pooled_pixels() const { return half(half(height)) * half(half(width)); }
  Planes planes() const { return stem_planes(height, width); }

  Phases<T> phases() const { return Phases<T>(height, width, channels); }
  void load(Phases<T>& phases, int64_t number) const {
    phases.load(image + number * height * width * channels);
  }

  // Writes y [outputs, pixels].
  void convolve(Phases<T>& phases, Scratch<T>& tile, T* y) const {
    const int64_t pixels = this->pixels();
    for (int first = 0; first < outputs; first += kTileChannels) {
      const int size = std::min(kTileChannels, outputs - first);
      densenet::convolve(phases.start(), 0, 1, phases.offsets(), &weights[int64_t{first} * taps()],
                         tile[0], tile.pitch(), size, planes().template span<T>(), false);
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

  // Reads x [outputs, pixels], writes y and winners [outputs, pooled pixels].
  void pool(MaximumPooling<T>& pooling, const Normalization<T>& norm, const T* x, T* y,
            uint8_t* winners) const {
    for (int k = 0; k < outputs; ++k) {
      const int64_t pooled = k * pooled_pixels();
      pooling.forward(norm[k], x + k * pixels(), y + pooled, winners + pooled);
    }
  }
};

template <typename T>
ffi::Error stem(ffi::ThreadPool pool, double epsilon, ffi::AnyBuffer image, ffi::AnyBuffer scale,
                ffi::AnyBuffer bias, ffi::AnyBuffer kernel, ffi::Result<ffi::AnyBuffer> y,
                ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> var,
                ffi::Result<ffi::AnyBuffer> pooled, ffi::Result<ffi::AnyBuffer> winners) {
  const Stem<T> stem(image, kernel);
  const Maps<uint8_t> places{data<uint8_t>(winners), stem.outputs, stem.pooled_pixels()};
  const Maps<T> convolved = maps(data<T>(y), y->dimensions());
  const Maps<T> result{data<T>(pooled), stem.outputs, stem.pooled_pixels()};
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  Moments<T> moments(stem.images, stem.outputs);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    Phases<T> phases = stem.phases();
    Scratch<T> tile(stem.planes(), kTileChannels);
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
  const Maps<T> result{data<T>(pooled), stem.outputs, stem.pooled_pixels()};
  const Normalization<T> norm(stem.outputs, {data<T>(mean), data<T>(var)}, data<T>(scale),
                              data<T>(bias), epsilon);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    Phases<T> phases = stem.phases();
    Scratch<T> tile(stem.planes(), kTileChannels);
    MaximumPooling<T> pooling(stem.planes());
    std::vector<T> convolved(stem.outputs * stem.pixels());
    std::vector<uint8_t> winners(stem.outputs * stem.pooled_pixels());
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      stem.convolve(phases, tile, convolved.data());
      stem.pool(pooling, norm, convolved.data(), result.at(b, 0), winners.data());
    }
  });
  return ffi::Error::Success();
}

template <typename T>
ffi::Error stem_gradient(ffi::ThreadPool pool, double epsilon, ffi::AnyBuffer image,
                         ffi::AnyBuffer scale, ffi::AnyBuffer bias, ffi::AnyBuffer kernel,
                         ffi::AnyBuffer y, ffi::AnyBuffer mean, ffi::AnyBuffer var,
                         ffi::AnyBuffer pooled, ffi::AnyBuffer winners, ffi::AnyBuffer of_pooled,
                         ffi::AnyBuffer of_mean_in, ffi::AnyBuffer of_var_in, ffi::Result<ffi::AnyBuffer> of_scale,
                         ffi::Result<ffi::AnyBuffer> of_bias,
                         ffi::Result<ffi::AnyBuffer> of_kernel) {
  const Stem<T> stem(image, kernel);
  const int64_t pixels = stem.pixels();
  const Maps<T> convolved = maps(data<T>(y), y.dimensions());
  const Maps<T> result{data<T>(pooled), stem.outputs, stem.pooled_pixels()};
  const Maps<T> given{data<T>(of_pooled), stem.outputs, stem.pooled_pixels()};
  const Maps<uint8_t> places{data<uint8_t>(winners), stem.outputs, stem.pooled_pixels()};
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  const Normalization<T> norm(stem.outputs, statistics, data<T>(scale), data<T>(bias), epsilon);

  std::vector<double> d(stem.images * stem.outputs), dx(d);
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    MaximumPooling<T> pooling(stem.planes());
    for (int64_t b = first; b < end; ++b) {
      for (int k = 0; k < stem.outputs; ++k) {
        const T *x = convolved.at(b, k), *behind = pooling.gradient(result.at(b, k), places.at(b, k), given.at(b, k));
        const T mean = norm.mean[k];
        SegmentSum<T> sum_d, sum_dx;
        stem.planes().for_segments([&](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) {
            sum_d.lanes[i] += behind[padded + i];
            sum_dx.lanes[i] += behind[padded + i] * (x[dense + i] - mean);
          }
        });
        d[b * stem.outputs + k] = sum_d.total();
        dx[b * stem.outputs + k] = sum_dx.total();
      }
    }
  });
  std::vector<T> of_mean = copy<T>(of_mean_in), of_var = copy<T>(of_var_in);
  const Statistics<T> of_statistics{of_mean.data(), of_var.data()};
  for (int k = 0; k < stem.outputs; ++k) {
    double all_d = 0, all_dx = 0;
    for (int64_t b = 0; b < stem.images; ++b) {
      all_d += d[b * stem.outputs + k], all_dx += dx[b * stem.outputs + k];
    }
    norm.gradients(k, all_d, all_dx, data<T>(of_scale), data<T>(of_bias), of_statistics);
  }
  const ThroughStatistics<T> through(stem.outputs, statistics, of_statistics,
                                     stem.images * pixels);

  const int taps = stem.taps();
  std::vector<std::vector<T>> sums(parts(stem.images), std::vector<T>(taps * stem.outputs));
  for_parts(pool, stem.images, [&](int part, int64_t first, int64_t end) {
    Phases<T> phases = stem.phases();
    Scratch<T> dy(stem.planes(), stem.outputs);
    MaximumPooling<T> pooling(stem.planes());
    std::vector<const T*> rows;
    for (const int64_t offset : phases.offsets()) rows.push_back(phases.start() + offset);
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      for (int k = 0; k < stem.outputs; ++k) {
        const T *x = convolved.at(b, k), *from = pooling.gradient(result.at(b, k), places.at(b, k), given.at(b, k));
        T* to = dy[k];
        const T factor = norm.factor[k], center = through.mean[k];
        const T constant = through.constant[k], slope = through.slope[k];
        stem.planes().for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) {
            to[padded + i] =
                factor * from[padded + i] + (constant + slope * (x[dense + i] - center));
          }
        });
      }
      correlate(rows, dy[0], dy.pitch(), stem.outputs, stem.planes().template span<T>(),
                sums[part].data(), stem.outputs);
    }
  });
  for (int i = 0; i < taps * stem.outputs; ++i) {
    T sum = 0;
    for (const auto& part : sums) sum += part[i];
    data<T>(of_kernel)[i] = sum;
  }
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(stem, ffi::Ffi::Bind()
                          .Ctx<ffi::ThreadPool>()
                          .Attr<double>("epsilon")
                          .Arg<ffi::AnyBuffer>()  // image [B, H, W, C]
                          .Arg<ffi::AnyBuffer>()  // scale [K]
                          .Arg<ffi::AnyBuffer>()  // bias [K]
                          .Arg<ffi::AnyBuffer>()  // kernel [7, 7, C, K]
                          .Ret<ffi::AnyBuffer>()    // convolved [B, K, P]
                          .Ret<ffi::AnyBuffer>()    // its mean [K]
                          .Ret<ffi::AnyBuffer>()    // its variance [K]
                          .Ret<ffi::AnyBuffer>()    // pooled [B, K, h, w]
                          .Ret<ffi::AnyBuffer>());  // places of the largest, bytes [B, K, h, w]

DENSENET_DEFINE(stem_gradient, ffi::Ffi::Bind()
                                   .Ctx<ffi::ThreadPool>()
                                   .Attr<double>("epsilon")
                                   .Arg<ffi::AnyBuffer>()  // what `stem` was given
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()  // what it returned
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()  // gradients for pooled, mean, variance
                                   .Arg<ffi::AnyBuffer>()
                                   .Arg<ffi::AnyBuffer>()
                                   .Ret<ffi::AnyBuffer>()  // gradients for scale, bias, kernel
                                   .Ret<ffi::AnyBuffer>()
                                   .Ret<ffi::AnyBuffer>());

DENSENET_DEFINE(stem_evaluate, ffi::Ffi::Bind()
                                   .Ctx<ffi::ThreadPool>()
                                   .Attr<double>("epsilon")
                                   .Arg<ffi::AnyBuffer>()  // image [B, H, W, C]
                                   .Arg<ffi::AnyBuffer>()  // scale [K]
                                   .Arg<ffi::AnyBuffer>()  // bias [K]
                                   .Arg<ffi::AnyBuffer>()  // kernel [7, 7, C, K]
                                   .Arg<ffi::AnyBuffer>()  // running mean [K]
                                   .Arg<ffi::AnyBuffer>()  // running variance [K]
                                   .Ret<ffi::AnyBuffer>());  // pooled [B, K, h, w]

}  // namespace densenet
