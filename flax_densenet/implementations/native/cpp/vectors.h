// Vectors of the processor, and how many of them its registers hold.

#pragma once

#include <cstdint>
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

// For loops that are given what to do: what it refers to stays in registers only where all of it is
// part of one function, since vectors are stored to what could be anything.
#define DENSENET_INLINE __attribute__((always_inline))

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

}  // namespace densenet
