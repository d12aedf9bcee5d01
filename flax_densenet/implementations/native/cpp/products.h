// The products that a convolution and its gradients are made of.
//
// Planes are the pixels of one channel; a tap of a convolution is an offset into a plane (see
// planes.h).

#pragma once

#include <cstdint>
#include <vector>

#include "vectors.h"

namespace densenet {

// Channels whose results are computed at a time: with two vectors of pixels each, they take most of
// the registers.
constexpr int kRegisterChannels = kManyRegisters ? 12 : 6;

// Pixels whose results are computed at a time.
template <typename T>
constexpr int64_t kPanel = 2 * kLanes<T>;

// Pixels that are read: those of channel c in the panel from q on lie at start + c pitch + q step.
template <typename T>
struct Pixels {
  const T* start;
  int64_t pitch, step;  // the step is 1 in planes
};

// y[m, q] (+)= sum over inputs c and taps t of weights[c, t, m] x[c, q + offsets[t]],
// for all q < span (a multiple of kLanes) and m < outputs <= kRegisterChannels.
// The weights that are wanted next, which lie `next` behind these, are fetched meanwhile.
template <typename T>
void convolve(Pixels<T> x, int inputs, const std::vector<int64_t>& offsets, const T* weights,
              int64_t next, T* y, int64_t y_pitch, int outputs, int64_t span, bool adds);

// For each of `numbers` products by themselves, on pixels that are read alone:
// y[m, q] (+)= sum over inputs c of weights[c, m] x[c, q].
// Their operands lie the pitches of `Apart` from one to the next.
struct Apart {
  int64_t x, weights, y;
};

template <typename T>
void multiply(int numbers, Apart apart, const T* x, int64_t x_pitch, int inputs, const T* weights,
              T* y, int64_t y_pitch, int outputs, int64_t span, bool adds);

// sums[i, j] += sum over q < span of a[i][q] b[j, q].
template <typename T>
void correlate(const std::vector<const T*>& a, const T* b, int64_t b_pitch, int columns,
               int64_t span, T* sums, int64_t sums_pitch);

}  // namespace densenet
