// Parallel loops on XLA's threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace densenet {

// Calls f(part) for all parts and returns when they are done.
//
// The caller works, too, and waits only for parts that have been begun, so the pool cannot
// deadlock. The result of a part does not depend on its thread.
template <typename F>
void parallel_for(xla::ffi::ThreadPool& pool, int parts, F f) {
  struct State {
    std::atomic<int> next{0};
    std::mutex mutex;
    std::condition_variable changed;
    int done = 0;
  };
  auto state = std::make_shared<State>();
  auto work = [state, parts, &f] {
    for (int part; (part = state->next.fetch_add(1)) < parts;) {
      f(part);
      std::lock_guard<std::mutex> lock(state->mutex);
      if (++state->done == parts) state->changed.notify_all();
    }
  };
  const int helpers = std::min<int64_t>(pool.num_threads(), parts) - 1;
  for (int i = 0; i < helpers; ++i) pool.Schedule([work] { work(); });
  work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->changed.wait(lock, [&] { return state->done == parts; });
}

// The number of parts of a batch, each with its own sums of gradients. It is the same on every
// machine, so that results do not depend on the number of threads.
inline int parts(int64_t chunks) { return std::min<int64_t>(16, chunks); }

// Calls f(part, first chunk, last chunk + 1) for all parts.
template <typename F>
void for_parts(xla::ffi::ThreadPool& pool, int64_t chunks, F f) {
  const int count = parts(chunks);
  parallel_for(pool, count, [&, count](int part) {
    f(part, part * chunks / count, (part + 1) * chunks / count);
  });
}

// Calls f(first, end) for independent ranges that make up [0, count).
template <typename F>
void for_ranges(xla::ffi::ThreadPool& pool, int64_t count, F f) {
  const int64_t ranges = std::min<int64_t>(4 * pool.num_threads(), count);
  parallel_for(pool, ranges,
               [&](int range) { f(range * count / ranges, (range + 1) * count / ranges); });
}

}  // namespace densenet
