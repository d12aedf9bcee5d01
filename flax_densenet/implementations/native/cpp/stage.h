// A stage: normalization, ReLU, pooling in transitions, and convolution.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "normalization.h"
#include "planes.h"
#include "polyphase.h"
#include "winograd.h"

namespace densenet {

template <typename T>
struct Stage {
  Planes read, planes;  // before and after pooling; `planes` have the convolution's reach
  int inputs, outputs;
  bool tiled;       // whether its convolution goes tile by tile
  const T* kernel;  // [taps, inputs, outputs]
  Normalization<T> norm;
  std::vector<int64_t> offsets, back_offsets;
  std::unique_ptr<T[]> weights, back_weights;  // in the order in which the products read them

  Stage(Planes read_, Planes planes_, int inputs_, int outputs_, const T* kernel_,
        Normalization<T> norm_)
      : read(read_),
        planes(planes_),
        inputs(inputs_),
        outputs(outputs_),
        kernel(kernel_),
        norm(std::move(norm_)),
        offsets(planes.offsets(1)),
        back_offsets(planes.offsets(-1)) {
    tiled = planes.reach == 1 && TileGrid(planes).tiles() >= kLeastTiles;
  }

  bool pools() const { return read.pixels() != planes.pixels(); }
  int taps() const { return offsets.size(); }
  int products() const { return tiled ? kTileElements : taps(); }  // of an input and an output

  // Weights are packed input by input, or output by output for the gradient, in any order.
  void reserve_forward() { weights.reset(new T[int64_t{inputs} * outputs * products()]); }
  void reserve_backward() { back_weights.reset(new T[int64_t{inputs} * outputs * products()]); }

  void pack_forward(int input) {
    tiled ? pack_transformed(weights.get(), outputs, inputs, input, outputs, 1, 1)
          : pack(weights.get(), outputs, inputs, input, outputs, 1);
  }

  void pack_backward(int output) {
    tiled ? pack_transformed(back_weights.get(), inputs, outputs, output, 1, outputs, -1)
          : pack(back_weights.get(), inputs, outputs, output, 1, outputs);
  }

 private:
  // In the kernel of a tap, `in_pitch` and `out_pitch` are the distances between two inputs and
  // between two outputs.
  void pack(T* packed, int outs, int ins, int in, int64_t in_pitch, int64_t out_pitch) {
    const int64_t tap_pitch = int64_t{inputs} * outputs;
    for (int first = 0; first < outs; first += kRegisterChannels) {
      const int width = std::min(kRegisterChannels, outs - first);
      T* to = packed + (int64_t{first} * ins + int64_t{in} * width) * taps();
      const T* from = kernel + in * in_pitch + first * out_pitch;
      for (int t = 0; t < taps(); ++t, to += width, from += tap_pitch) {
        for (int m = 0; m < width; ++m) to[m] = from[m * out_pitch];
      }
    }
  }

  // The same for each element of the transformed kernel; with `sign` -1 the kernel is rotated.
  void pack_transformed(T* packed, int outs, int ins, int in, int64_t in_pitch, int64_t out_pitch,
                        int sign) {
    const int64_t size = int64_t{outs} * ins, tap_pitch = int64_t{inputs} * outputs;
    for (int first = 0; first < outs; first += kRegisterChannels) {
      const int width = std::min(kRegisterChannels, outs - first);
      const T* center = kernel + in * in_pitch + first * out_pitch + 4 * tap_pitch;
      T taps[9][kRegisterChannels] = {}, elements[kTileElements][kRegisterChannels];
      for (int t = 0; t < 9; ++t) {
        const T* from = center + sign * (t - 4) * tap_pitch;
        for (int m = 0; m < width; ++m) taps[t][m] = from[m * out_pitch];
      }
      transform_kernels<kRegisterChannels>(taps, elements);
      T* to = packed + int64_t{first} * ins + int64_t{in} * width;
      for (int i = 0; i < kTileElements; ++i) std::copy_n(elements[i], width, to + i * size);
    }
  }
};

}  // namespace densenet
