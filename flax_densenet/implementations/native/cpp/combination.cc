// Two lists of arrays added up, each times a factor: the arithmetic of an optimizer.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arrays.h"
#include "parallel.h"

namespace densenet {
namespace {

constexpr int64_t kPiece = 16384;  // numbers; so that threads can share the arrays evenly

template <typename T>
struct Piece {
  const T* x;
  const T* y;
  T* sum;  // may be x
  int64_t count;
};

template <typename T>
ffi::Error combine(ffi::ThreadPool pool, ffi::AnyBuffer factors, ffi::RemainingArgs arrays,
                   ffi::RemainingRets sums) {
  std::vector<Piece<T>> pieces;
  for (size_t i = 0; i < sums.size(); ++i) {
    const auto x = *arrays.get<ffi::AnyBuffer>(i);
    const auto y = *arrays.get<ffi::AnyBuffer>(sums.size() + i);
    auto sum = *sums.get<ffi::AnyBuffer>(i);
    const int64_t size = x.element_count();
    for (int64_t first = 0; first < size; first += kPiece) {
      pieces.push_back({data<T>(x) + first, data<T>(y) + first, data<T>(sum) + first,
                        std::min(kPiece, size - first)});
    }
  }
  const T a = data<T>(factors)[0], b = data<T>(factors)[1];
  for_ranges(pool, pieces.size(), [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      const auto [x, y, sum, count] = pieces[i];
#pragma GCC ivdep
      for (int64_t j = 0; j < count; ++j) sum[j] = a * x[j] + b * y[j];
    }
  });
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(combine, ffi::Ffi::Bind()
                             .Ctx<ffi::ThreadPool>()
                             .Arg<ffi::AnyBuffer>()  // factors [2]
                             .RemainingArgs()        // all of x, then all of y
                             .RemainingRets());      // their sums

}  // namespace densenet
