#include "arguments.h"

#include <algorithm>
#include <cstdint>
#include <string>

namespace densenet {
namespace {

std::string text(Name name) {
  return name.number < 0 ? name.name : std::string(name.name) + " " + std::to_string(name.number);
}

std::string text(Checks::Sizes sizes) {
  std::string all;
  for (const int64_t size : sizes) {
    if (!all.empty()) all += ", ";
    all += size == kAny ? "any" : std::to_string(size);
  }
  return "[" + all + "]";
}

bool fits(int64_t size, int64_t wanted) { return wanted == kAny ? size > 0 : size == wanted; }

}  // namespace

void Checks::fail(const std::string& message) {
  if (!failed()) error_ = std::string(handler_) + ": " + message;
}

void Checks::shape(Name name, Sizes got, Sizes wanted) {
  if (!std::equal(got.begin(), got.end(), wanted.begin(), wanted.end(), fits)) {
    fail(text(name) + " has shape " + text(got) + ", wanted " + text(wanted));
  }
}

void Checks::count(const char* pack, int64_t got, int64_t wanted) {
  if (got != wanted) {
    fail(std::string(pack) + " has " + std::to_string(got) + " arrays, wanted " +
         std::to_string(wanted));
  }
}

void Checks::at_least(const char* name, int64_t got, int64_t least) {
  if (got < least) {
    fail(std::string(name) + " is " + std::to_string(got) + ", wanted at least " +
         std::to_string(least));
  }
}

void Checks::images(const char* name, int64_t pixels, int64_t height, int64_t width) {
  at_least("height", height, 1);
  at_least("width", width, 1);
  if (!failed() && (pixels < 1 || pixels % (height * width) != 0)) {
    fail(std::string(name) + " has " + std::to_string(pixels) +
         " pixels in a chunk, wanted a multiple of " + std::to_string(height) + " x " +
         std::to_string(width));
  }
}

std::nullopt_t Checks::refuse(Name name, const ffi::Error& error) {
  fail(text(name) + ": " + error.message());
  return std::nullopt;
}

}  // namespace densenet
