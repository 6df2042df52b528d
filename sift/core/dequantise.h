#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/core/dtype.h"

namespace sift {

/// Expands `count` consecutive stored values of `type` to float: the plain definition of every
/// block format. REQUIRES: count is a multiple of the type's block_values.
void dequantise(DType type, const std::byte* source, std::int64_t count, float* destination);

}  // namespace sift
