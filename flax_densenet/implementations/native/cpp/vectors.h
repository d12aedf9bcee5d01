// The processor's vectors.

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

// Forces inlining of lambdas. Otherwise the compiler must assume that storing a vector changes what
// they capture, and keeps nothing of it in registers.
#define DENSENET_INLINE __attribute__((always_inline))

// What happens to the values that are at a target already.
enum class WriteMode { kReplace, kAdd };

constexpr WriteMode add_if(bool adds) { return adds ? WriteMode::kAdd : WriteMode::kReplace; }

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

// Reads a vector into a register. Otherwise the compiler may read it again at each use.
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

// Returns the first aligned address from this one on. A vector that spans two cache lines takes
// twice as long to load.
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

// Returns lanes of two vectors: lane i is lane kLane[i] of a followed by b.
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
