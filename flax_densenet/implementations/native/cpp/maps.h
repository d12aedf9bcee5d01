// Feature maps of a batch, chunk by chunk, and their statistics.

#pragma once

#include <cstdint>
#include <vector>

#include "normalization.h"
#include "planes.h"

namespace densenet {

// Maps of all chunks: `channels` planes for each.
template <typename T>
struct Maps {
  T* data;
  int64_t channels, pixels;

  T* at(int64_t chunk, int64_t channel) const {
    return data + (chunk * channels + channel) * pixels;
  }
};

// Mean and variance of each channel and chunk.
template <typename T>
struct Moments {
  int channels;
  std::vector<double> mean, var;

  Moments(int64_t chunks, int channels_)
      : channels(channels_), mean(chunks * channels_), var(chunks * channels_) {}

  void take(int64_t chunk, const T* maps, int64_t pixels) {
    const Planes planes{1, 1, pixels, 0};
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

  // Merges the chunks, which have one size: mean variance plus variance of the means.
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

}  // namespace densenet
