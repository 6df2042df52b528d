#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "sift/core/dtype.h"
#include "sift/model/gguf.h"

namespace sift {

/// Stored bytes of a value of `type`; of a string or array its length field alone.
std::uint64_t scalar_bytes(GgufType type);

/// The element type that the file format numbers so, or nothing when it is unknown or not read.
std::optional<DType> dtype_from_ggml(std::uint32_t number);
std::uint32_t ggml_from_dtype(DType type);

/// "12 (Q4_K)", or the number alone when the format does not name it.
std::string ggml_name(std::uint32_t number);

/// What Gguf::get<T> expects, in words.
template <class T>
constexpr std::string_view wanted_name() {
  if constexpr (std::is_same_v<T, bool>) return "a boolean";
  if constexpr (std::is_same_v<T, std::int64_t>) return "an integer";
  if constexpr (std::is_same_v<T, double>) return "a floating-point number";
  if constexpr (std::is_same_v<T, std::string_view>) return "a string";
  return "an array";
}

}  // namespace sift
