// The gradients of the stem: `stem_backward`. Axes as in stem.h.

#include <cstdint>
#include <vector>

#include "stem.h"

namespace densenet {
namespace {

// What the forward pass made, and the gradients for the stem's output.
template <typename T>
struct StemResiduals {
  Maps<T> convolved, pooled;
  Maps<uint8_t> winners;
  Maps<T> grad_pooled;

  // The gradient after the normalization, before the ReLU, of an image's channel: a padded plane.
  const T* grad_norm(MaximumPooling<T>& pooling, int64_t image, int channel) const {
    return pooling.gradient(pooled.at(image, channel), winners.at(image, channel),
                            grad_pooled.at(image, channel));
  }
};

// Writes the gradients of scale and bias and adds to those of the statistics.
template <typename T>
void normalization_gradient(ffi::ThreadPool& pool, const Stem<T>& stem,
                            const StemResiduals<T>& residuals, const Normalization<T>& norm,
                            T* grad_scale, T* grad_bias, Statistics<T> grad_statistics) {
  std::vector<double> sums(stem.images * stem.outputs), dots(sums);  // Normalization::gradients
  for_parts(pool, stem.images, [&](int, int64_t first, int64_t end) {
    MaximumPooling<T> pooling(stem.planes());
    for (int64_t b = first; b < end; ++b) {
      for (int k = 0; k < stem.outputs; ++k) {
        const T *x = residuals.convolved.at(b, k), *grad = residuals.grad_norm(pooling, b, k);
        const T mean = norm.mean[k];
        SegmentSum<T> sum, dot;
        stem.planes().for_segments([&](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) {
            sum.lanes[i] += grad[padded + i];
            dot.lanes[i] += grad[padded + i] * (x[dense + i] - mean);
          }
        });
        sums[b * stem.outputs + k] = sum.total();
        dots[b * stem.outputs + k] = dot.total();
      }
    }
  });
  for (int k = 0; k < stem.outputs; ++k) {
    double sum = 0, dot = 0;
    for (int64_t b = 0; b < stem.images; ++b) {
      sum += sums[b * stem.outputs + k];
      dot += dots[b * stem.outputs + k];
    }
    norm.gradients(k, sum, dot, grad_scale, grad_bias, grad_statistics);
  }
}

template <typename T>
void kernel_gradient(ffi::ThreadPool& pool, const Stem<T>& stem, const StemResiduals<T>& residuals,
                     const Normalization<T>& norm, const StatisticsTerm<T>& term, T* grad_kernel) {
  const int size = stem.taps() * stem.outputs;
  std::vector<std::vector<T>> sums(parts(stem.images), std::vector<T>(size));
  for_parts(pool, stem.images, [&](int part, int64_t first, int64_t end) {
    ImagePhases<T> phases = stem.phases();
    Scratch<T> grad_y(stem.planes(), stem.outputs);
    MaximumPooling<T> pooling(stem.planes());
    std::vector<const T*> rows;
    for (const int64_t offset : phases.offsets()) rows.push_back(phases.start() + offset);
    for (int64_t b = first; b < end; ++b) {
      stem.load(phases, b);
      for (int k = 0; k < stem.outputs; ++k) {
        const T *x = residuals.convolved.at(b, k), *grad = residuals.grad_norm(pooling, b, k);
        T* to = grad_y[k];
        const T factor = norm.factor[k], mean = term.mean[k];
        const T constant = term.constant[k], slope = term.slope[k];
        stem.planes().for_segments([=](auto length, int64_t dense, int64_t padded) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) {
            to[padded + i] = factor * grad[padded + i] + (constant + slope * (x[dense + i] - mean));
          }
        });
      }
      correlate(rows, grad_y[0], grad_y.pitch(), stem.outputs, stem.planes().template span<T>(),
                sums[part].data(), stem.outputs);
    }
  });
  for (int i = 0; i < size; ++i) {
    T sum = 0;
    for (const auto& part : sums) sum += part[i];
    grad_kernel[i] = sum;
  }
}

template <typename T>
ffi::Error stem_backward(ffi::ThreadPool pool, double epsilon, Array<T, 4> image, Array<T, 1> scale,
                         Array<T, 1> bias, Array<T, 4> kernel, Array<T, 3> convolved,
                         Array<T, 1> mean, Array<T, 1> var, Array<T, 4> pooled, Winners winners,
                         Array<T, 4> grad_pooled, Array<T, 1> grad_mean, Array<T, 1> grad_var,
                         Output<T, 1> grad_scale, Output<T, 1> grad_bias,
                         Output<T, 4> grad_kernel) {
  const StemInputs<T> inputs{image, scale, bias, kernel};
  Checks checks("stem_backward");
  inputs.check(checks);
  inputs.check_convolved(checks, "convolved", convolved);
  inputs.check_vector(checks, "mean", mean);
  inputs.check_vector(checks, "var", var);
  inputs.check_pooled(checks, "pooled", pooled);
  inputs.check_pooled(checks, "winners", winners);
  inputs.check_pooled(checks, "grad_pooled", grad_pooled);
  inputs.check_vector(checks, "grad_mean", grad_mean);
  inputs.check_vector(checks, "grad_var", grad_var);
  inputs.check_vector(checks, "grad_scale", *grad_scale);
  inputs.check_vector(checks, "grad_bias", *grad_bias);
  checks.shape("grad_kernel", *grad_kernel,
               {kStemKernel, kStemKernel, inputs.channels(), inputs.outputs()});
  if (checks.failed()) return checks.error();

  const Stem<T> stem(inputs);
  const StemResiduals<T> residuals{stem.convolved(convolved), stem.pooled(pooled),
                                   stem.winners(winners), stem.pooled(grad_pooled)};
  const Statistics<T> statistics{mean.typed_data(), var.typed_data()};
  const Normalization<T> norm(stem.outputs, statistics, scale.typed_data(), bias.typed_data(),
                              epsilon);
  auto mean_sums = copy(grad_mean), var_sums = copy(grad_var);
  const Statistics<T> grad_statistics{mean_sums.data(), var_sums.data()};
  normalization_gradient(pool, stem, residuals, norm, grad_scale->typed_data(),
                         grad_bias->typed_data(), grad_statistics);
  const StatisticsTerm<T> term(stem.outputs, statistics, grad_statistics,
                               stem.images * stem.pixels());
  kernel_gradient(pool, stem, residuals, norm, term, grad_kernel->typed_data());
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(stem_backward, ffi::Ffi::Bind()
                                   .Ctx<ffi::ThreadPool>()
                                   .Attr<double>("epsilon")
                                   .Arg<Array<T, 4>>()    // image [B, H, W, C]
                                   .Arg<Array<T, 1>>()    // scale [K]
                                   .Arg<Array<T, 1>>()    // bias [K]
                                   .Arg<Array<T, 4>>()    // kernel [7, 7, C, K]
                                   .Arg<Array<T, 3>>()    // convolved [B, K, P]
                                   .Arg<Array<T, 1>>()    // mean [K]
                                   .Arg<Array<T, 1>>()    // var [K]
                                   .Arg<Array<T, 4>>()    // pooled [B, K, h, w]
                                   .Arg<Winners>()        // winners [B, K, h, w]
                                   .Arg<Array<T, 4>>()    // grad_pooled [B, K, h, w]
                                   .Arg<Array<T, 1>>()    // grad_mean [K]
                                   .Arg<Array<T, 1>>()    // grad_var [K]
                                   .Ret<Array<T, 1>>()    // grad_scale [K]
                                   .Ret<Array<T, 1>>()    // grad_bias [K]
                                   .Ret<Array<T, 4>>());  // grad_kernel [7, 7, C, K]

}  // namespace densenet
