#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sift {

/// Element types of tensors, named as GGUF names them. Quantised types store blocks of values
/// (block_formats.h); a row always holds whole blocks.
enum class DType : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
};

struct DTypeTraits {
  std::string_view name;  ///< "q4_1"
  int block_values;       ///< values per block, 1 for plain types
  int block_bytes;        ///< bytes per block
};

const DTypeTraits& traits(DType type);

/// The type called `name` ("f16", "q8_0"), or nothing.
std::optional<DType> dtype_from_name(std::string_view name);

/// Bytes of one row of `columns` values. REQUIRES: columns is a multiple of block_values.
inline std::size_t row_bytes(DType type, std::int64_t columns) {
  const DTypeTraits& t = traits(type);
  return static_cast<std::size_t>(columns / t.block_values * t.block_bytes);
}

}  // namespace sift
