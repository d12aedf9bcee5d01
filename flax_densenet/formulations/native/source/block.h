// A dense block: all layers, each of which reads the maps of all before it.
//
// Chunks go through a stage in parallel, and through one stage after the other, since a stage needs
// the statistics of all chunks.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "stage.h"

namespace densenet {

// Parts of the batch whose gradients are added up apart from each other: the same number on every
// machine, so that the result does not depend on the number of threads.
constexpr int kParts = 16;

template <typename T>
struct StageParameters {
  const T *scale, *bias, *kernel;
  int size, inputs, outputs;  // of the kernel [size, size, inputs, outputs]
};

template <typename T>
struct StageGradients {
  T *scale, *bias, *kernel;
};

// Channels of all chunks: `channels` planes for each.
template <typename T>
struct Maps {
  T* data;
  int64_t channels, pixels;

  T* at(int64_t chunk, int64_t channel) const {
    return data + (chunk * channels + channel) * pixels;
  }
};

template <typename T>
struct Statistics {
  T *mean, *var;

  Statistics after(int64_t channels) const { return {mean + channels, var + channels}; }
};

template <typename T>
class Block {
 public:
  Block(xla::ffi::ThreadPool& pool, int64_t chunks, Planes planes, double epsilon)
      : pool_(pool), chunks_(chunks), planes_(planes), epsilon_(epsilon) {}

  int64_t count() const { return chunks_ * planes_.pixels(); }

  Stage<T> stage(const StageParameters<T>& p, Statistics<T> statistics) const {
    Planes planes = planes_;
    planes.reach = p.size / 2;
    return Stage<T>(planes, p.inputs, p.outputs, p.kernel,
                    Normalization<T>(p.inputs, statistics.mean, statistics.var, p.scale, p.bias,
                                     epsilon_));
  }

  // Calls f(part, first chunk, last chunk + 1).
  template <typename F>
  void for_parts(F f) {
    const int parts = this->parts();
    parallel_for(pool_, parts, [&, parts](int part) {
      f(part, part * chunks_ / parts, (part + 1) * chunks_ / parts);
    });
  }

  int parts() const { return std::min<int64_t>(kParts, chunks_); }

  // Writes a stage's output to `target` from channel `start` on, and its statistics.
  void forward(Stage<T> stage, Maps<T> source, Maps<T> target, int64_t start,
               Statistics<T> statistics) {
    stage.pack_forward();
    Moments moments(chunks_, stage.outputs);
    for_parts([&](int, int64_t first, int64_t end) {
      Forward<T> worker(stage);
      for (int64_t g = first; g < end; ++g) {
        worker.run(source.at(g, 0), target.at(g, start));
        moments.take(g, target.at(g, start), planes_);
      }
    });
    moments.merge(statistics);
  }

  // Statistics of maps that are there already.
  void observe(Maps<T> maps, int channels, Statistics<T> statistics) {
    Moments moments(chunks_, channels);
    for_parts([&](int, int64_t first, int64_t end) {
      for (int64_t g = first; g < end; ++g) moments.take(g, maps.at(g, 0), planes_);
    });
    moments.merge(statistics);
  }

  // Writes the gradients of a stage's parameters and adds to those of its input's statistics.
  void backward(Stage<T> stage, Maps<T> source, Maps<T> target, Maps<T> of_target, int64_t start,
                Maps<T> of_source, bool adds, const ThroughStatistics<T>& through,
                Statistics<T> of_statistics, StageGradients<T> gradients) {
    stage.pack_backward();
    std::vector<Sums<T>> sums(parts(), Sums<T>(stage));
    for_parts([&](int part, int64_t first, int64_t end) {
      Backward<T> worker(stage, through, sums[part]);
      for (int64_t g = first; g < end; ++g) {
        worker.run(source.at(g, 0), target.at(g, start), of_target.at(g, start),
                   of_source.at(g, 0), adds);
      }
    });
    for (size_t part = 1; part < sums.size(); ++part) sums[0].add(sums[part]);
    finish(stage, sums[0], of_statistics, gradients);
  }

 private:
  // Mean and mean squared deviation of each chunk.
  struct Moments {
    int channels;
    std::vector<double> mean, var;

    Moments(int64_t chunks, int channels_)
        : channels(channels_), mean(chunks * channels_), var(chunks * channels_) {}

    void take(int64_t chunk, const T* maps, Planes planes) {
      planes.reach = 0;
      const int64_t pixels = planes.pixels();
      for (int c = 0; c < channels; ++c) {
        const T* x = maps + c * pixels;
        SegmentSum<T> sum, squares;
        planes.for_segments([&](auto length, int64_t dense, int64_t) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) sum.lanes[i] += x[dense + i];
        });
        const T center = sum.total() / pixels;
        planes.for_segments([&](auto length, int64_t dense, int64_t) {
#pragma GCC ivdep
          for (int i = 0; i < length(); ++i) {
            const T deviation = x[dense + i] - center;
            squares.lanes[i] += deviation * deviation;
          }
        });
        mean[chunk * channels + c] = center;
        var[chunk * channels + c] = squares.total() / pixels;
      }
    }

    // Exact for chunks of one size: the mean variance plus the variance of the means.
    void merge(Statistics<T> to) const {
      const int64_t chunks = mean.size() / channels;
      for (int c = 0; c < channels; ++c) {
        double center = 0, spread = 0;
        for (int64_t g = 0; g < chunks; ++g) center += mean[g * channels + c] / chunks;
        for (int64_t g = 0; g < chunks; ++g) {
          const double deviation = mean[g * channels + c] - center;
          spread += (var[g * channels + c] + deviation * deviation) / chunks;
        }
        to.mean[c] = center;
        to.var[c] = spread;
      }
    }
  };

  static void finish(const Stage<T>& stage, const Sums<T>& sums, Statistics<T> of_statistics,
                     StageGradients<T> gradients) {
    const Normalization<T>& norm = stage.norm;
    const int taps = stage.taps();
    for (int c = 0; c < stage.inputs; ++c) {
      const double deviation = norm.deviation[c];
      gradients.bias[c] = sums.d[c];
      gradients.scale[c] = sums.dx[c] / deviation;
      of_statistics.mean[c] -= norm.factor[c] * sums.d[c];
      of_statistics.var[c] -=
          0.5 * sums.dx[c] * norm.scale[c] / (deviation * deviation * deviation);
      for (int t = 0; t < taps; ++t) {
        const T* from = &sums.kernel[(int64_t{c} * taps + t) * stage.outputs];
        std::copy_n(from, stage.outputs,
                    gradients.kernel + (int64_t{t} * stage.inputs + c) * stage.outputs);
      }
    }
  }

  xla::ffi::ThreadPool& pool_;
  int64_t chunks_;
  Planes planes_;
  double epsilon_;
};

}  // namespace densenet
