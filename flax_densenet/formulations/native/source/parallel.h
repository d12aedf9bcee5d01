// Work cut into parts for the threads that XLA already has.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace densenet {

// Calls f(part) for all parts and returns when they are done.
//
// The caller takes part and waits only for parts that have been begun, so that it cannot wait for
// threads which are all waiting, too. Which thread computes a part has no influence on its result.
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

}  // namespace densenet
