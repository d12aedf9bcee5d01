// One thread's memory for transformed tiles (winograd.h).

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "polyphase.h"
#include "winograd.h"

namespace densenet {

// Tiles are multiplied block by block. A block has as many tiles as a panel has pixels.
template <typename T>
int64_t blocks(const TileGrid& grid) {
  return (grid.span<T>() + kPanel<T> - 1) / kPanel<T>;
}

template <typename T>
int64_t span_of_block(const TileGrid& grid, int64_t block) {
  return std::min(kPanel<T>, grid.span<T>() - block * kPanel<T>);
}

// Elements of tiles, block by block, so that all that a product reads lies together. The distance
// between two elements is an odd number of vectors: caches collide at multiples of 4096 bytes.
template <typename T>
class TileBlocks {
 public:
  TileBlocks(int channels, int64_t blocks)
      : pitch_(channels * kPanel<T> + kLanes<T>),
        memory_(new T[kTileElements * blocks * pitch_ + kLanes<T>]),
        start_(aligned(memory_.get())) {}

  T* at(int64_t block, int element, int channel) {
    return start_ + (block * kTileElements + element) * pitch_ + channel * kPanel<T>;
  }
  int64_t pitch() const { return pitch_; }  // to the next element

 private:
  int64_t pitch_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

// Calls f(first lane in the block, first tile) for the vectors of a block.
template <typename T, typename F>
void for_vectors(const TileGrid& grid, int64_t block, F f) {
  for (int64_t i = 0; i < span_of_block<T>(grid, block); i += kLanes<T>) {
    f(i, block * kPanel<T> + i);
  }
}

// Calls f(block, first lane in it, first tile) for the vectors of all blocks.
template <typename T, typename F>
void for_vectors(const TileGrid& grid, F f) {
  for (int64_t block = 0; block < blocks<T>(grid); ++block) {
    for_vectors<T>(grid, block, [&](int64_t lane, int64_t tile) { f(block, lane, tile); });
  }
}

// Elements of tiles, in planes.
template <typename T>
class TilePlanes {
 public:
  TilePlanes(const TileGrid& grid, int channels)
      : channels_(channels),
        pitch_((grid.span<T>() / kLanes<T> | 1) * kLanes<T>),
        memory_(new T[kTileElements * channels * pitch_ + kLanes<T>]),
        start_(aligned(memory_.get())) {}

  T* at(int element, int channel) { return start_ + (element * channels_ + channel) * pitch_; }
  int64_t pitch() const { return pitch_; }                      // to the next channel
  int64_t element_pitch() const { return channels_ * pitch_; }  // to the next element

 private:
  int channels_;
  int64_t pitch_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

}  // namespace densenet
