// One normalization, ReLU, pooling if any, and convolution, as one chunk goes through it.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "normalization.h"
#include "planes.h"

namespace densenet {

template <typename T>
struct Stage {
  Planes read, planes;  // before and after pooling, the latter with the convolution's reach
  int inputs, outputs;
  const T* kernel;  // [taps, inputs, outputs]
  Normalization<T> norm;
  std::vector<int64_t> offsets, back_offsets;
  std::vector<T> weights, back_weights;  // in the order in which `convolve` reads them

  Stage(Planes read_, Planes planes_, int inputs_, int outputs_, const T* kernel_,
        Normalization<T> norm_)
      : read(read_), planes(planes_), inputs(inputs_), outputs(outputs_), kernel(kernel_),
        norm(std::move(norm_)), offsets(planes.offsets(1)), back_offsets(planes.offsets(-1)) {}

  bool pools() const { return read.pixels() != planes.pixels(); }
  int taps() const { return offsets.size(); }

  void pack_forward() {
    pack(weights, outputs, inputs, outputs, 1);
  }

  void pack_backward() {
    pack(back_weights, inputs, outputs, 1, outputs);
  }

 private:
  // The kernel of a tap lies with these distances between two inputs and between two outputs.
  void pack(std::vector<T>& packed, int outs, int ins, int64_t in_pitch, int64_t out_pitch) {
    packed.resize(int64_t{outs} * ins * taps());
    T* to = packed.data();
    for (int first = 0; first < outs; first += kTileChannels) {
      const int size = std::min(kTileChannels, outs - first);
      for (int in = 0; in < ins; ++in) {
        const T* from = kernel + in * in_pitch + first * out_pitch;
        for (int t = 0; t < taps(); ++t, to += size, from += int64_t{inputs} * outputs) {
          for (int m = 0; m < size; ++m) to[m] = from[m * out_pitch];
        }
      }
    }
  }
};

}  // namespace densenet
