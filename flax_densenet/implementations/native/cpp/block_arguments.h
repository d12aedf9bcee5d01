// The arguments of dense blocks and transitions, as the types of this library.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arguments.h"
#include "executor.h"

namespace densenet {

// From an array [..., chunks, channels, pixels].
template <typename T, size_t rank>
Maps<T> maps(const Array<T, rank>& array) {
  const auto shape = array.dimensions();
  return {array.typed_data(), shape[rank - 2], shape[rank - 1]};
}

// The planes of a chunk with so many pixels.
inline Planes planes(int64_t pixels, int64_t height, int64_t width) {
  return {pixels / (height * width), height, width, 0};
}

template <typename T>
void copy_chunk(Maps<T> from, Maps<T> to, int64_t chunk) {
  std::copy_n(from.at(chunk, 0), from.channels * from.pixels, to.at(chunk, 0));
}

// How the parameters of a block's stages lie in a pack.
//
// They come layer by layer: scale [C], bias [C] and kernel [size, size, C, K] of each stage, in
// evaluation followed by running mean [C] and variance [C].
struct PackLayout {
  bool has_running;

  int arrays_per_stage() const { return has_running ? 5 : 3; }
};

// Reads a stage with this kernel [size, size, inputs, outputs]; outputs may be `kAny`.
template <typename T>
StageParameters<T> read_stage(Checks& checks, const ffi::RemainingArgs& pack, PackLayout layout,
                              int64_t stage, int size, int64_t inputs, int64_t outputs) {
  const size_t first = stage * layout.arrays_per_stage();
  const auto vector = [&](size_t number, const char* name) -> T* {
    const auto array = checks.input<T, 1>(pack, first + number, {name, stage}, {inputs});
    return array ? array->typed_data() : nullptr;
  };
  StageParameters<T> parameters{};
  parameters.scale = vector(0, "scale");
  parameters.bias = vector(1, "bias");
  if (layout.has_running) {
    parameters.running = {vector(3, "running mean"), vector(4, "running variance")};
  }
  const auto kernel =
      checks.input<T, 4>(pack, first + 2, {"kernel", stage}, {size, size, inputs, outputs});
  if (!kernel) return parameters;
  parameters.kernel = kernel->typed_data();
  parameters.shape = {size, static_cast<int>(inputs), static_cast<int>(kernel->dimensions()[3])};
  return parameters;
}

// The stages of a dense block, layer by layer.
template <typename T>
struct BlockParameters {
  std::vector<StageParameters<T>> stages;
  int64_t joined;  // channels after the block
};

// Reads all layers of a block; with two stages per layer, the first makes `bottleneck` channels.
// All layers make the same number of channels.
template <typename T>
BlockParameters<T> read_block(Checks& checks, const ffi::RemainingArgs& pack, PackLayout layout,
                              int64_t layers, int stages_per_layer, int64_t channels,
                              int64_t bottleneck) {
  BlockParameters<T> block{{}, channels};
  int64_t growth_rate = kAny;
  for (int64_t layer = 0; layer < layers && !checks.failed(); ++layer) {
    int64_t inputs = block.joined;
    if (stages_per_layer == 2) {
      block.stages.push_back(
          read_stage<T>(checks, pack, layout, block.stages.size(), 1, inputs, bottleneck));
      inputs = bottleneck = block.stages.back().shape.outputs;
    }
    block.stages.push_back(
        read_stage<T>(checks, pack, layout, block.stages.size(), 3, inputs, growth_rate));
    growth_rate = block.stages.back().shape.outputs;
    block.joined += growth_rate;
  }
  return block;
}

}  // namespace densenet
