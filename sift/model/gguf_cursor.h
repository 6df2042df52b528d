#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "sift/core/error.h"

namespace sift {

/// Throws Error{bad_file}: "FILE: FIELD at offset N: WHAT".
[[noreturn]] inline void fail_at(std::string_view file, std::string_view field,
                                 std::uint64_t offset, std::string_view what) {
  throw Error(ErrorKind::bad_file,
              fmt::format("{}: {} at offset {}: {}", file, field, offset, what));
}

/// Reads little-endian values one after another; every read is checked against the end of the file.
class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> file, std::string_view name) : file_(file), name_(name) {}

  std::uint64_t offset() const { return offset_; }
  std::uint64_t remaining() const { return file_.size() - offset_; }

  template <class T>
  T read(std::string_view field) {
    T value;
    std::memcpy(&value, take(sizeof(T), field).data(), sizeof(T));
    return value;
  }

  /// A 64-bit length and that many bytes.
  std::string_view read_string(std::string_view field) {
    const auto length = read<std::uint64_t>(field);
    const std::span<const std::byte> text = take(length, field);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  std::span<const std::byte> take(std::uint64_t bytes, std::string_view field) {
    if (bytes > remaining()) {
      fail(field, fmt::format("needs {} bytes, but the file ends after {}", bytes, remaining()));
    }
    const std::span<const std::byte> taken = file_.subspan(offset_, bytes);
    offset_ += bytes;
    return taken;
  }

  [[noreturn]] void fail(std::string_view field, std::string_view what) const {
    fail_at(name_, field, offset_, what);
  }

 private:
  std::span<const std::byte> file_;
  std::string_view name_;
  std::uint64_t offset_ = 0;
};

}  // namespace sift
