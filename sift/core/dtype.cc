#include "sift/core/dtype.h"

#include <array>

#include "sift/core/block_formats.h"

namespace sift {
namespace {

template <class Block>
constexpr DTypeTraits block_traits(std::string_view name) {
  return {name, Block::kValues, sizeof(Block)};
}

// Indexed by DType.
constexpr std::array<DTypeTraits, 11> kTraits = {{
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    block_traits<BlockQ8_0>("q8_0"),
    block_traits<BlockQ4_0>("q4_0"),
    block_traits<BlockQ4_1>("q4_1"),
    block_traits<BlockQ5_0>("q5_0"),
    block_traits<BlockQ5_1>("q5_1"),
    block_traits<BlockQ4_K>("q4_k"),
    block_traits<BlockQ5_K>("q5_k"),
    block_traits<BlockQ6_K>("q6_k"),
}};

}  // namespace

const DTypeTraits& traits(DType type) { return kTraits[static_cast<std::size_t>(type)]; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kTraits.size(); ++i) {
    if (kTraits[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace sift
