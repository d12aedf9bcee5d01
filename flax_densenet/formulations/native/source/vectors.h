// Vectors of the processor, and how many of them its registers hold.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace densenet {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr bool kManyRegisters = true;  // 32
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
constexpr bool kManyRegisters = false;  // 16
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr bool kManyRegisters = true;
#else
constexpr int kVectorBytes = 16;
constexpr bool kManyRegisters = false;
#endif

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};

template <typename T>
using Vector = typename VectorOf<T>::type;

template <typename T>
constexpr int kLanes = kVectorBytes / sizeof(T);

template <typename T>
inline Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof(v));  // one instruction, which needs no alignment
  return v;
}

template <typename T>
inline void store(T* to, Vector<T> v) {
  std::memcpy(to, &v, sizeof(v));
}

// Reads a vector into a register, from which the compiler would else read it anew at each use.
template <typename T>
inline Vector<T> load_once(const T* from) {
  Vector<T> v = load(from);
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE2__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

// An address at or behind this one where a vector lies in as few cache lines as it can: one that
// spans one line more takes twice as long to load.
template <typename T>
T* aligned(T* address) {
  const uintptr_t bytes = reinterpret_cast<uintptr_t>(address);
  return reinterpret_cast<T*>((bytes + kVectorBytes - 1) / kVectorBytes * kVectorBytes);
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define DENSENET_HAS_SHUFFLE
#endif
#endif

// Returns the lanes of two vectors, lane i from place kLane i of one behind the other.
template <typename T, int... kLane>
inline Vector<T> shuffle(Vector<T> a, Vector<T> b, std::integer_sequence<int, kLane...>) {
#ifdef DENSENET_HAS_SHUFFLE
  return __builtin_shufflevector(a, b, kLane...);
#else
  return Vector<T>{(kLane < kLanes<T> ? a[kLane % kLanes<T>] : b[kLane % kLanes<T>])...};
#endif
}

template <typename T>
using Lanes = std::make_integer_sequence<int, kLanes<T>>;

// Pixels side by side: two vectors, or fewer pixels with something behind them.
template <typename T>
using Two = std::array<Vector<T>, 2>;

template <typename T, int... i>
inline Two<T> split(Two<T> v, std::integer_sequence<int, i...>) {
  return {shuffle<T>(v[0], v[1], std::integer_sequence<int, (2 * i)...>()),
          shuffle<T>(v[0], v[1], std::integer_sequence<int, (2 * i + 1)...>())};
}

// Returns the pixels with even and those with odd places.
template <typename T>
inline Two<T> split(Two<T> v) {
  return split<T>(v, Lanes<T>());
}

template <typename T, int... i>
inline Two<T> join(Two<T> v, std::integer_sequence<int, i...>) {
  constexpr int n = kLanes<T>;
  return {shuffle<T>(v[0], v[1], std::integer_sequence<int, (i / 2 + i % 2 * n)...>()),
          shuffle<T>(v[0], v[1], std::integer_sequence<int, (n / 2 + i / 2 + i % 2 * n)...>())};
}

// The opposite.
template <typename T>
inline Two<T> join(Two<T> v) {
  return join<T>(v, Lanes<T>());
}

// Reads the first kCount lanes; the others become zero.
template <int kCount, typename T>
inline Vector<T> load_part(const T* from) {
  static_assert(kCount <= kLanes<T>);
  if constexpr (kCount == kLanes<T>) {
    return load(from);
  } else {
#ifdef __AVX512F__  // or the part would go through memory, which the load that follows waits for
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

// Reads kLength pixels, with zeros behind them.
template <int kLength, typename T>
inline Two<T> load_pixels(const T* from) {
  constexpr int n = kLanes<T>;
  if constexpr (kLength <= n) {
    return {load_part<kLength>(from), Vector<T>{}};
  } else {
    return {load(from), load_part<kLength - n>(from + n)};
  }
}

template <int kLength, typename T>
inline void store_pixels(T* to, Two<T> v) {
  constexpr int n = kLanes<T>;
  store_part<std::min(kLength, n)>(to, v[0]);
  if constexpr (kLength > n) store_part<kLength - n>(to + n, v[1]);
}

template <int kCount, typename T, int... i>
inline Vector<T> first_lanes(Vector<T> v, std::integer_sequence<int, i...>) {
  return shuffle<T>(v, Vector<T>{}, std::integer_sequence<int, (i < kCount ? i : kLanes<T>)...>());
}

// Returns the first kLength pixels, with zeros behind them.
template <int kLength, typename T>
inline Two<T> first_pixels(Two<T> v) {
  constexpr int n = kLanes<T>;
  if constexpr (kLength >= 2 * n) return v;
  return {first_lanes<kLength, T>(v[0], Lanes<T>()), first_lanes<kLength - n, T>(v[1], Lanes<T>())};
}

// Adds the halves of each 2 kDistance lanes of both; those of `a` come first.
template <int kDistance, typename T, int... i>
inline Vector<T> fold(Vector<T> a, Vector<T> b, std::integer_sequence<int, i...>) {
  constexpr int n = kLanes<T>, d = kDistance;
  return shuffle<T>(a, b, std::integer_sequence<int, (i % (2 * d) < d ? i : i - d + n)...>()) +
         shuffle<T>(a, b, std::integer_sequence<int, (i % (2 * d) < d ? i + d : i + n)...>());
}

// Adds up the lanes of each of kCount vectors, a power of two not above the number of lanes. The sums
// are as many lanes apart as that leaves.
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

// Writes the sum of the lanes of each of kCount vectors.
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
    T apart[n];
    store(apart, lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) sums[i] = apart[i * (n / padded)];
  }
}

}  // namespace densenet
