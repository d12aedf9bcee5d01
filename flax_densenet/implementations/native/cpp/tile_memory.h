// Memory of one thread for the numbers of tiles (winograd.h).

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "quarters.h"
#include "winograd.h"

namespace densenet {

// Tiles are multiplied a block at a time: as many of them as a panel has pixels.
template <typename T>
int64_t blocks(const TileGrid& grid) {
  return (grid.span<T>() + kPanel<T> - 1) / kPanel<T>;
}

template <typename T>
int64_t span_of_block(const TileGrid& grid, int64_t block) {
  return std::min(kPanel<T>, grid.span<T>() - block * kPanel<T>);
}

// Numbers of tiles, block by block: all that a product reads lies together. From one number to the
// next it is an odd number of vectors, since caches collide at multiples of 4096 bytes.
template <typename T>
class TileBlocks {
 public:
  TileBlocks(int channels, int64_t blocks)
      : pitch_(channels * kPanel<T> + kLanes<T>),
        memory_(new T[kTileNumbers * blocks * pitch_ + kLanes<T>]),
        start_(aligned(memory_.get())) {}

  T* at(int64_t block, int number, int channel) {
    return start_ + (block * kTileNumbers + number) * pitch_ + channel * kPanel<T>;
  }
  int64_t pitch() const { return pitch_; }  // to the next number

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

// Numbers of tiles, in planes.
template <typename T>
class TilePlanes {
 public:
  TilePlanes(const TileGrid& grid, int channels)
      : channels_(channels),
        pitch_((grid.span<T>() / kLanes<T> | 1) * kLanes<T>),
        memory_(new T[kTileNumbers * channels * pitch_ + kLanes<T>]),
        start_(aligned(memory_.get())) {}

  T* at(int number, int channel) { return start_ + (number * channels_ + channel) * pitch_; }
  int64_t pitch() const { return pitch_; }                     // to the next channel
  int64_t number_pitch() const { return channels_ * pitch_; }  // to the next number

 private:
  int channels_;
  int64_t pitch_;
  std::unique_ptr<T[]> memory_;
  T* start_;
};

}  // namespace densenet
