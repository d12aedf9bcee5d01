// The gradient of the stem. Axes as in stem.cc.

#include <cstdint>
#include <vector>

#include "stem.h"

namespace densenet {
namespace {

// What the gradient of the stem needs of its forward pass, and the gradient that it is given.
template <typename T>
struct Kept {
  Maps<T> convolved, pooled;
  Maps<uint8_t> winners;
  Maps<T> of_pooled;

  // The gradient behind the ReLU of an image's channel, as a padded plane.
  const T* behind_relu(MaximumPooling<T>& pooling, int64_t image, int channel) const {
    return pooling.gradient(pooled.at(image, channel), winners.at(image, channel),
                            of_pooled.at(image, channel));
  }
};

// Writes the gradients of scale and bias and adds to those of the statistics.
template <typename T>
void normalization_gradient(ffi::ThreadPool& pool, const Stem<T>& stem, const Kept<T>& kept,
                            const Normalization<T>& norm, T* of_scale, T* of_bias,
                            Statistics<T> of_statistics) {
  std::vector<double> d(stem.images * stem.outputs), dx(d);  // as Normalization::gradients says
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    MaximumPooling<T> pooling(stem.planes());
    for (int64_t b = first; b < end; ++b) {
      for (int k = 0; k < stem.outputs; ++k) {
        const T *x = kept.convolved.at(b, k), *behind = kept.behind_relu(pooling, b, k);
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
  for (int k = 0; k < stem.outputs; ++k) {
    double all_d = 0, all_dx = 0;
    for (int64_t b = 0; b < stem.images; ++b) {
      all_d += d[b * stem.outputs + k];
      all_dx += dx[b * stem.outputs + k];
    }
    norm.gradients(k, all_d, all_dx, of_scale, of_bias, of_statistics);
  }
}

template <typename T>
void kernel_gradient(ffi::ThreadPool& pool, const Stem<T>& stem, const Kept<T>& kept,
                     const Normalization<T>& norm, const ThroughStatistics<T>& through,
                     T* of_kernel) {
  const int size = stem.taps() * stem.outputs;
  std::vector<std::vector<T>> sums(parts(stem.images), std::vector<T>(size));
  for_parts(pool, stem.images, [&](int part, int64_t first, int64_t end) {
    Phases<T> phases = stem.phases();
    Scratch<T> dy(stem.planes(), stem.outputs);
    MaximumPooling<T> pooling(stem.planes());
    std::vector<const T*> rows;
    for (const int64_t offset : phases.offsets()) rows.push_back(phases.start() + offset);
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      for (int k = 0; k < stem.outputs; ++k) {
        const T *x = kept.convolved.at(b, k), *behind = kept.behind_relu(pooling, b, k);
        T* to = dy[k];
        const T factor = norm.factor[k], mean = through.mean[k];
        const T constant = through.constant[k], slope = through.slope[k];
        stem.planes().for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) {
            to[padded + i] =
                factor * behind[padded + i] + (constant + slope * (x[dense + i] - mean));
          }
        });
      }
      correlate(rows, dy[0], dy.pitch(), stem.outputs, stem.planes().template span<T>(),
                sums[part].data(), stem.outputs);
    }
  });
  for (int i = 0; i < size; ++i) {
    T sum = 0;
    for (const auto& part : sums) sum += part[i];
    of_kernel[i] = sum;
  }
}

template <typename T>
ffi::Error stem_gradient(ffi::ThreadPool pool, double epsilon, ffi::AnyBuffer image,
                         ffi::AnyBuffer scale, ffi::AnyBuffer bias, ffi::AnyBuffer kernel,
                         ffi::AnyBuffer y, ffi::AnyBuffer mean, ffi::AnyBuffer var,
                         ffi::AnyBuffer pooled, ffi::AnyBuffer winners, ffi::AnyBuffer of_pooled,
                         ffi::AnyBuffer of_mean_in, ffi::AnyBuffer of_var_in,
                         ffi::Result<ffi::AnyBuffer> of_scale, ffi::Result<ffi::AnyBuffer> of_bias,
                         ffi::Result<ffi::AnyBuffer> of_kernel) {
  const Stem<T> stem(image, kernel);
  const Kept<T> kept{maps(data<T>(y), y.dimensions()), stem.template pooled<T>(pooled),
                     stem.template pooled<uint8_t>(winners), stem.template pooled<T>(of_pooled)};
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  const Normalization<T> norm(stem.outputs, statistics, data<T>(scale), data<T>(bias), epsilon);
  std::vector<T> of_mean = copy<T>(of_mean_in), of_var = copy<T>(of_var_in);
  const Statistics<T> of_statistics{of_mean.data(), of_var.data()};
  normalization_gradient(pool, stem, kept, norm, data<T>(of_scale), data<T>(of_bias),
                         of_statistics);
  const ThroughStatistics<T> through(stem.outputs, statistics, of_statistics,
                                     stem.images * stem.pixels());
  kernel_gradient(pool, stem, kept, norm, through, data<T>(of_kernel));
  return ffi::Error::Success();
}

}  // namespace

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

}  // namespace densenet
