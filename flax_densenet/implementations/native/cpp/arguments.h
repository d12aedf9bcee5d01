// The arrays that XLA passes to a handler, and checks that they fit one another.

#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace densenet {

namespace ffi = xla::ffi;

template <typename T>
constexpr ffi::DataType kDataType = std::is_same_v<T, float> ? ffi::F32 : ffi::F64;

// XLA refuses calls with arrays of another type or rank.
template <typename T, size_t rank>
using Array = ffi::Buffer<kDataType<T>, rank>;
template <typename T, size_t rank>
using Output = ffi::Result<Array<T, rank>>;
template <typename T>
using ArrayOfAnyRank = ffi::Buffer<kDataType<T>>;

template <typename Buffer>
auto copy(const Buffer& array) {
  const auto* first = array.typed_data();
  return std::vector(first, first + array.element_count());
}

// In a shape that is wanted: any size but 0.
constexpr int64_t kAny = -1;

// The name of an array in error messages.
struct Name {
  const char* name;
  int64_t number;  // of the stage or array that it belongs to; -1: there is only one

  Name(const char* name_, int64_t number_ = -1) : name(name_), number(number_) {}
};

// Checks a handler's arguments. The first check that fails is the handler's error.
class Checks {
 public:
  using Shape = std::initializer_list<int64_t>;
  using Sizes = ffi::Span<const int64_t>;

  explicit Checks(const char* handler) : handler_(handler) {}

  bool failed() const { return error_.has_value(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument(*error_); }
  void fail(const std::string& message);

  // Wants an array of this shape.
  template <typename Buffer>
  void shape(Name name, const Buffer& array, Shape wanted) {
    shape(name, array.dimensions(), Sizes(wanted.begin(), wanted.size()));
  }
  void shape(Name name, Sizes got, Sizes wanted);

  // Wants this number of arrays in a pack.
  void count(const char* pack, int64_t got, int64_t wanted);

  // Wants a value of at least `least`.
  void at_least(const char* name, int64_t got, int64_t least);

  // Wants chunks of whole images.
  void images(const char* name, int64_t pixels, int64_t height, int64_t width);

  // Returns an array of a pack, if its type and rank are right; wants this shape.
  template <typename T, size_t rank>
  std::optional<Array<T, rank>> input(const ffi::RemainingArgs& pack, size_t index, Name name,
                                      Shape wanted) {
    const auto array = pack.get<Array<T, rank>>(index);
    if (!array.has_value()) return refuse(name, array.error());
    shape(name, *array, wanted);
    return *array;
  }
  template <typename T, size_t rank>
  std::optional<Array<T, rank>> output(const ffi::RemainingRets& pack, size_t index, Name name,
                                       Shape wanted) {
    auto array = pack.get<Array<T, rank>>(index);
    if (!array.has_value()) return refuse(name, array.error());
    shape(name, **array, wanted);
    return **array;
  }

 private:
  std::nullopt_t refuse(Name name, const ffi::Error& error);

  const char* handler_;
  std::optional<std::string> error_;
};

}  // namespace densenet

// Exports the function template `name` for both types, as name_float32 and name_float64. The other
// argument binds the parameters of name<T>.
#define DENSENET_DEFINE(name, ...)                                                                 \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_float32, name<float>, (DENSENET_BIND(float, __VA_ARGS__))); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_float64, name<double>, (DENSENET_BIND(double, __VA_ARGS__)))

#define DENSENET_BIND(type, ...) \
  [] {                           \
    using T = type;              \
    return __VA_ARGS__;          \
  }()
