// Takes all chunks through one stage, in parallel.
//
// Stages run one after the other, because a stage needs the statistics of all chunks.

#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "algorithms.h"
#include "maps.h"
#include "parallel.h"

namespace densenet {

struct KernelShape {
  int size, inputs, outputs;  // of [size, size, inputs, outputs]
};

template <typename T>
struct StageParameters {
  const T *scale, *bias, *kernel;
  Statistics<T> running;  // in evaluation
  KernelShape shape;
};

template <typename T>
struct StageGradients {
  T *scale, *bias, *kernel;
};

// What a stage made, and the gradients for it.
template <typename T>
struct OutputMaps {
  Maps<T> maps, grad;
  int64_t start;                  // the stage's first channel in both
  const StatisticsTerm<T>* term;  // that completes the gradients; null: they are complete
};

// What a stage read, and where the gradients for it go.
template <typename T>
struct InputMaps {
  Maps<T> maps, grad;
  WriteMode mode;  // of the gradients
  Statistics<T> grad_statistics;
};

template <typename T>
class Executor {
 public:
  Executor(xla::ffi::ThreadPool& pool, int64_t chunks, Planes planes, double epsilon)
      : pool_(pool), chunks_(chunks), planes_(planes), epsilon_(epsilon) {}

  // Pixels of all chunks.
  int64_t count() const { return chunks_ * planes_.pixels(); }

  Stage<T> stage(const StageParameters<T>& parameters, Statistics<T> statistics) const {
    Planes padded = planes_;
    padded.reach = parameters.shape.size / 2;
    return stage(parameters, statistics, padded);
  }

  // A stage with 2x2 average pooling before its convolution. The result is that of pooling after
  // it, for a quarter of the work.
  Stage<T> transition(const StageParameters<T>& parameters, Statistics<T> statistics) const {
    return stage(parameters, statistics,
                 {planes_.images, planes_.height / 2, planes_.width / 2, 0});
  }

  // Calls f(part, first chunk, last chunk + 1) for all parts.
  template <typename F>
  void for_parts(F f) {
    densenet::for_parts(pool_, chunks_, f);
  }

  // Writes a stage's output to `target` from channel `start` on; calls f(chunk) after each chunk.
  template <typename F>
  void forward(Stage<T> stage, Maps<T> source, Maps<T> target, int64_t start, F f) {
    stage.reserve_forward();
    for_ranges(pool_, stage.inputs, [&](int64_t first, int64_t end) {
      for (int64_t c = first; c < end; ++c) stage.pack_forward(c);
    });
    for_parts([&](int, int64_t first, int64_t end) {
      Forward<T> worker(stage);
      for (int64_t g = first; g < end; ++g) {
        worker.run(stage, source.at(g, 0), target.at(g, start));
        f(g);
      }
    });
  }

  // The same; writes the output's statistics, too.
  void forward(Stage<T> stage, Maps<T> source, Maps<T> target, int64_t start,
               Statistics<T> statistics) {
    Moments<T> moments(chunks_, stage.outputs);
    forward(std::move(stage), source, target, start,
            [&](int64_t g) { moments.take(g, target.at(g, start), target.pixels); });
    moments.merge(statistics);
  }

  // Writes the statistics of maps that exist already.
  void observe(Maps<T> maps, int channels, Statistics<T> statistics) {
    Moments<T> moments(chunks_, channels);
    for_parts([&](int, int64_t first, int64_t end) {
      for (int64_t g = first; g < end; ++g) moments.take(g, maps.at(g, 0), maps.pixels);
    });
    moments.merge(statistics);
  }

  // Writes the gradients of a stage's parameters and adds to those of its input's statistics.
  void backward(Stage<T> stage, OutputMaps<T> output, InputMaps<T> input,
                StageGradients<T> gradients) {
    stage.reserve_backward();
    for_ranges(pool_, stage.outputs, [&](int64_t first, int64_t end) {
      for (int64_t k = first; k < end; ++k) stage.pack_backward(k);
    });
    std::vector<Sums<T>> sums(parts(chunks_), Sums<T>(stage));
    for_parts([&](int part, int64_t first, int64_t end) {
      Backward<T> worker(stage, output.term, sums[part]);
      for (int64_t g = first; g < end; ++g) {
        worker.run(input.maps.at(g, 0), output.maps.at(g, output.start),
                   output.grad.at(g, output.start), input.grad.at(g, 0), input.mode);
      }
    });
    for_ranges(pool_, stage.inputs, [&](int64_t first, int64_t end) {
      for (int64_t c = first; c < end; ++c) {
        for (size_t part = 1; part < sums.size(); ++part) sums[0].add(stage, sums[part], c);
        stage.norm.gradients(c, sums[0].grad_sum[c], sums[0].grad_dot[c], gradients.scale,
                             gradients.bias, input.grad_statistics);
        sums[0].write_kernel(stage, c, gradients.kernel);
      }
    });
  }

 private:
  Stage<T> stage(const StageParameters<T>& parameters, Statistics<T> statistics,
                 Planes planes) const {
    const KernelShape shape = parameters.shape;
    return Stage<T>(
        planes_, planes, shape.inputs, shape.outputs, parameters.kernel,
        Normalization<T>(shape.inputs, statistics, parameters.scale, parameters.bias, epsilon_));
  }

  xla::ffi::ThreadPool& pool_;
  int64_t chunks_;
  Planes planes_;
  double epsilon_;
};

}  // namespace densenet
