// Vectors of the processor, and how many of them its registers hold.

#pragma once

#include <cstring>
#include <utility>

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

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define DENSENET_HAS_SHUFFLE
#endif
#endif

#ifdef DENSENET_HAS_SHUFFLE
template <int kDistance, typename T, int... kLane>
inline Vector<T> add_partners(Vector<T> v, std::integer_sequence<int, kLane...>) {
  return v + __builtin_shufflevector(v, v, (kLane ^ kDistance)...);
}

// Adds up the lanes of a vector, in log2(lanes) steps.
template <typename T, int kDistance = kLanes<T> / 2>
inline T sum_lanes(Vector<T> v) {
  v = add_partners<kDistance, T>(v, std::make_integer_sequence<int, kLanes<T>>());
  if constexpr (kDistance > 1) {
    return sum_lanes<T, kDistance / 2>(v);
  } else {
    return v[0];
  }
}
#else
template <typename T>
inline T sum_lanes(Vector<T> v) {
  T sum = 0;
  for (int i = 0; i < kLanes<T>; ++i) sum += v[i];
  return sum;
}
#endif

}  // namespace densenet
