// Sums a x + b y of two lists of arrays: the arithmetic of optimizers and moving averages.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arguments.h"
#include "parallel.h"

namespace densenet {
namespace {

constexpr int64_t kPiece = 16384;  // elements; small, so that threads can share the arrays evenly

template <typename T>
struct Piece {
  const T* x;
  const T* y;
  T* sum;  // may be x
  int64_t count;
};

// With `prefixes`, y may be a longer vector than x, whose first elements are used.
template <typename T>
ffi::Error weighted_sum(ffi::ThreadPool pool, bool prefixes, Array<T, 1> factors,
                        ffi::RemainingArgs arrays, ffi::RemainingRets sums) {
  Checks checks("weighted_sum");
  checks.shape("factors", factors, {2});
  checks.count("x and y", arrays.size(), 2 * sums.size());
  if (checks.failed()) return checks.error();
  std::vector<Piece<T>> pieces;
  for (size_t i = 0; i < sums.size(); ++i) {
    const auto x = arrays.get<ArrayOfAnyRank<T>>(i);
    const auto y = arrays.get<ArrayOfAnyRank<T>>(sums.size() + i);
    auto sum = sums.get<ArrayOfAnyRank<T>>(i);
    if (!x.has_value()) return x.error();
    if (!y.has_value()) return y.error();
    if (!sum.has_value()) return sum.error();
    const int64_t number = i;
    const auto shape = x->dimensions();
    checks.shape({"sum", number}, (*sum)->dimensions(), shape);
    const bool is_prefix = prefixes && shape.size() == 1 && y->dimensions().size() == 1 &&
                           y->dimensions()[0] >= shape[0];
    if (!is_prefix) checks.shape({"y", number}, y->dimensions(), shape);
    if (checks.failed()) return checks.error();
    const int64_t size = x->element_count();
    for (int64_t first = 0; first < size; first += kPiece) {
      pieces.push_back({x->typed_data() + first, y->typed_data() + first,
                        (*sum)->typed_data() + first, std::min(kPiece, size - first)});
    }
  }
  const T a = factors.typed_data()[0], b = factors.typed_data()[1];
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

DENSENET_DEFINE(weighted_sum, ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<bool>("prefixes")
                                  .Arg<Array<T, 1>>()  // factors [2]: a and b
                                  .RemainingArgs()     // x: n arrays of any shape; y: n arrays
                                  .RemainingRets());   // sums: n arrays

}  // namespace densenet
