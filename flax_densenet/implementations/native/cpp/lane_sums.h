// Sums of the lanes of several vectors at once.

#pragma once

#include <utility>

#include "vectors.h"

namespace densenet {

// Adds the halves of each 2 kDistance lanes of a and b; the sums of `a` come first.
template <int kDistance, typename T, int... i>
inline Vector<T> fold(Vector<T> a, Vector<T> b, std::integer_sequence<int, i...>) {
  constexpr int n = kLanes<T>, d = kDistance;
  return shuffle<T>(a, b, std::integer_sequence<int, (i % (2 * d) < d ? i : i - d + n)...>()) +
         shuffle<T>(a, b, std::integer_sequence<int, (i % (2 * d) < d ? i + d : i + n)...>());
}

// Adds up the lanes of each of kCount vectors, a power of two up to kLanes. Sum i is in lane
// i * kLanes / kCount.
template <typename T, int kCount, int kDistance = kLanes<T> / 2>
inline Vector<T> sums_of_lanes(const Vector<T>* v) {
  if constexpr (kCount == 1 && kDistance == 0) {
    return v[0];
  } else if constexpr (kCount == 1) {
    const Vector<T> folded = fold<kDistance, T>(v[0], v[0], Lanes<T>());
    return sums_of_lanes<T, 1, kDistance / 2>(&folded);
  } else {
    Vector<T> folded[kCount / 2];
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      folded[i] = fold<kDistance, T>(v[i], v[i + kCount / 2], Lanes<T>());
    }
    return sums_of_lanes<T, kCount / 2, kDistance / 2>(folded);
  }
}

constexpr int power_of_two_from(int least) {
  int power = 1;
  while (power < least) power *= 2;
  return power;
}

// Writes the sums of the lanes of kCount vectors.
template <typename T, int kCount>
inline void write_sums(const Vector<T>* v, T* sums) {
  constexpr int n = kLanes<T>;
  if constexpr (kCount > n) {
    write_sums<T, n>(v, sums);
    write_sums<T, kCount - n>(v + n, sums + n);
  } else {
    constexpr int padded = power_of_two_from(kCount);
    Vector<T> all[padded] = {};
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) all[i] = v[i];
    const Vector<T> lanes = sums_of_lanes<T, padded>(all);
    T spread[n];
    store(spread, lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) sums[i] = spread[i * (n / padded)];
  }
}

}  // namespace densenet
