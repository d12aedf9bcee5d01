// Passes of all chunks through one stage: in parallel, and one stage after the other, since a stage
// needs the statistics of all chunks.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backward.h"
#include "forward.h"
#include "maps.h"
#include "parallel.h"

namespace densenet {

template <typename T>
struct StageParameters {
  const T *scale, *bias, *kernel;
  int size, inputs, outputs;  // of the kernel [size, size, inputs, outputs]
};

template <typename T>
struct StageGradients {
  T *scale, *bias, *kernel;
};

template <typename T>
class Passes {
 public:
  Passes(xla::ffi::ThreadPool& pool, int64_t chunks, Planes planes, double epsilon)
      : pool_(pool), chunks_(chunks), planes_(planes), epsilon_(epsilon) {}

  int64_t count() const { return chunks_ * planes_.pixels(); }

  Stage<T> stage(const StageParameters<T>& p, Statistics<T> statistics) const {
    Planes padded = planes_;
    padded.reach = p.size / 2;
    return Stage<T>(planes_, padded, p.inputs, p.outputs, p.kernel,
                    Normalization<T>(p.inputs, statistics, p.scale, p.bias, epsilon_));
  }

  // One with 2x2 average pooling before its convolution, which changes nothing but takes a quarter
  // of the work that pooling after it would.
  Stage<T> transition(const StageParameters<T>& p, Statistics<T> statistics) const {
    const Planes pooled{planes_.images, planes_.height / 2, planes_.width / 2, 0};
    return Stage<T>(planes_, pooled, p.inputs, p.outputs, p.kernel,
                    Normalization<T>(p.inputs, statistics, p.scale, p.bias, epsilon_));
  }

  // Calls f(part, first chunk, last chunk + 1) for all parts.
  template <typename F>
  void for_parts(F f) {
    densenet::for_parts(pool_, chunks_, f);
  }

  // Writes a stage's output to `target` from channel `start` on; calls f(chunk) behind each.
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

  // Statistics of maps that are there already.
  void observe(Maps<T> maps, int channels, Statistics<T> statistics) {
    Moments<T> moments(chunks_, channels);
    for_parts([&](int, int64_t first, int64_t end) {
      for (int64_t g = first; g < end; ++g) moments.take(g, maps.at(g, 0), maps.pixels);
    });
    moments.merge(statistics);
  }

  // Writes the gradients of a stage's parameters and adds to those of its input's statistics.
  void backward(Stage<T> stage, Maps<T> source, Maps<T> target, Maps<T> of_target, int64_t start,
                Maps<T> of_source, bool adds, const ThroughStatistics<T>* through,
                Statistics<T> of_statistics, StageGradients<T> gradients) {
    stage.reserve_backward();
    for_ranges(pool_, stage.outputs, [&](int64_t first, int64_t end) {
      for (int64_t k = first; k < end; ++k) stage.pack_backward(k);
    });
    std::vector<Sums<T>> sums(parts(chunks_), Sums<T>(stage));
    for_parts([&](int part, int64_t first, int64_t end) {
      Backward<T> worker(stage, through, sums[part]);
      for (int64_t g = first; g < end; ++g) {
        worker.run(source.at(g, 0), target.at(g, start), of_target.at(g, start), of_source.at(g, 0),
                   adds);
      }
    });
    for_ranges(pool_, stage.inputs, [&](int64_t first, int64_t end) {
      for (int64_t c = first; c < end; ++c) {
        for (size_t part = 1; part < sums.size(); ++part) sums[0].add(stage, sums[part], c);
        stage.norm.gradients(c, sums[0].d[c], sums[0].dx[c], gradients.scale, gradients.bias,
                             of_statistics);
        sums[0].write_kernel(stage, c, gradients.kernel);
      }
    });
  }

 private:
  xla::ffi::ThreadPool& pool_;
  int64_t chunks_;
  Planes planes_;
  double epsilon_;
};

}  // namespace densenet
