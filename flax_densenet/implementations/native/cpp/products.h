// The products that make up a convolution and its gradients.
//
// Planes are the pixels of one channel. A tap of a convolution is an offset into a plane
// (planes.h).

#pragma once

#include <cstdint>
#include <vector>

#include "vectors.h"

namespace densenet {

// Output channels that are computed at a time. With two vectors of pixels each, they take most of
// the registers.
constexpr int kRegisterChannels = kManyRegisters ? 12 : 6;

// Pixels that are computed at a time.
template <typename T>
constexpr int64_t kPanel = 2 * kLanes<T>;

// Input pixels. Those of channel c in the panel from q on are at start + c pitch + q step.
template <typename T>
struct Pixels {
  const T* start;
  int64_t pitch, step;  // the step is 1 in planes
};

// y[m, q] (+)= sum over inputs c and taps t of weights[c, t, m] x[c, q + offsets[t]],
// for all q < span (a multiple of kLanes) and m < outputs <= kRegisterChannels.
// `mode` says whether y is added to. Weights at a distance of `prefetch` are fetched meanwhile.
template <typename T>
void convolve(Pixels<T> x, int inputs, const std::vector<int64_t>& offsets, const T* weights,
              int64_t prefetch, T* y, int64_t y_pitch, int outputs, int64_t span, WriteMode mode);

// Distances from the operands of one product to those of the next.
struct ProductPitches {
  int64_t x, weights, y;
};

// For each of `count` independent products:
// y[m, q] (+)= sum over inputs c of weights[c, m] x[c, q].
template <typename T>
void multiply(int count, ProductPitches pitches, const T* x, int64_t x_pitch, int inputs,
              const T* weights, T* y, int64_t y_pitch, int outputs, int64_t span, WriteMode mode);

// sums[i, j] += sum over q < span of a[i][q] b[j, q].
template <typename T>
void correlate(const std::vector<const T*>& a, const T* b, int64_t b_pitch, int columns,
               int64_t span, T* sums, int64_t sums_pitch);

}  // namespace densenet
