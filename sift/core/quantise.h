#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/core/dtype.h"

namespace sift {

/// Stores `count` values as `type`, each rounded to the nearest that the block can hold: simple and
/// of plain quality, for small models made by tests. REQUIRES: count is a multiple of the type's
/// block_values, and values are finite.
void quantise(DType type, const float* source, std::int64_t count, std::byte* destination);

}  // namespace sift
