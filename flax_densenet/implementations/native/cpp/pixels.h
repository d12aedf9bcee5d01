// Neighbouring pixels in registers.

#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "vectors.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace densenet {

// Up to two vectors of pixels. Lanes without a pixel have any value.
template <typename T>
using VectorPair = std::array<Vector<T>, 2>;

template <typename T, int... i>
inline VectorPair<T> split(VectorPair<T> v, std::integer_sequence<int, i...>) {
  return {shuffle<T>(v[0], v[1], std::integer_sequence<int, (2 * i)...>()),
          shuffle<T>(v[0], v[1], std::integer_sequence<int, (2 * i + 1)...>())};
}

// Returns the pixels with even places and those with odd places.
template <typename T>
inline VectorPair<T> split(VectorPair<T> v) {
  return split<T>(v, Lanes<T>());
}

template <typename T, int... i>
inline VectorPair<T> join(VectorPair<T> v, std::integer_sequence<int, i...>) {
  constexpr int n = kLanes<T>;
  return {shuffle<T>(v[0], v[1], std::integer_sequence<int, (i / 2 + i % 2 * n)...>()),
          shuffle<T>(v[0], v[1], std::integer_sequence<int, (n / 2 + i / 2 + i % 2 * n)...>())};
}

// The inverse of `split`.
template <typename T>
inline VectorPair<T> join(VectorPair<T> v) {
  return join<T>(v, Lanes<T>());
}

// Reads the first kCount lanes; the others become zero.
template <int kCount, typename T>
inline Vector<T> load_part(const T* from) {
  static_assert(kCount <= kLanes<T>);
  if constexpr (kCount == kLanes<T>) {
    return load(from);
  } else {
#ifdef __AVX512F__  // copying through memory would stall the next load
    if constexpr (sizeof(T) == 4) return _mm512_maskz_loadu_ps((1u << kCount) - 1, from);
    if constexpr (sizeof(T) == 8) return _mm512_maskz_loadu_pd((1u << kCount) - 1, from);
#else
    Vector<T> v = {};
    std::memcpy(&v, from, kCount * sizeof(T));
    return v;
#endif
  }
}

template <int kCount, typename T>
inline void store_part(T* to, Vector<T> v) {
  static_assert(kCount <= kLanes<T>);
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(to, (1u << kCount) - 1, v);
  if constexpr (sizeof(T) == 8) _mm512_mask_storeu_pd(to, (1u << kCount) - 1, v);
#else
  std::memcpy(to, &v, kCount * sizeof(T));
#endif
}

// Reads kLength pixels; the other lanes become zero.
template <int kLength, typename T>
inline VectorPair<T> load_pixels(const T* from) {
  constexpr int n = kLanes<T>;
  if constexpr (kLength <= n) {
    return {load_part<kLength>(from), Vector<T>{}};
  } else {
    return {load(from), load_part<kLength - n>(from + n)};
  }
}

// The same for a length that is not a constant.
template <typename T>
inline VectorPair<T> load_pixels(const T* from, int64_t length) {
  T pixels[2 * kLanes<T>] = {};
  std::copy_n(from, length, pixels);
  return {load(pixels), load(pixels + kLanes<T>)};
}

template <int kLength, typename T>
inline void store_pixels(T* to, VectorPair<T> v) {
  constexpr int n = kLanes<T>;
  store_part<std::min(kLength, n)>(to, v[0]);
  if constexpr (kLength > n) store_part<kLength - n>(to + n, v[1]);
}

template <int kCount, typename T, int... i>
inline Vector<T> first_lanes(Vector<T> v, std::integer_sequence<int, i...>) {
  return shuffle<T>(v, Vector<T>{}, std::integer_sequence<int, (i < kCount ? i : kLanes<T>)...>());
}

// Returns the first kLength pixels; the other lanes become zero.
template <int kLength, typename T>
inline VectorPair<T> first_pixels(VectorPair<T> v) {
  constexpr int n = kLanes<T>;
  if constexpr (kLength >= 2 * n) return v;
  return {first_lanes<kLength, T>(v[0], Lanes<T>()), first_lanes<kLength - n, T>(v[1], Lanes<T>())};
}

}  // namespace densenet
