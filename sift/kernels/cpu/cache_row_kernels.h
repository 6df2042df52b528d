#pragma once

#include <cstddef>

#include "sift/core/dtype.h"

namespace sift::cpu {

// Cache rows to floats and back, in the best instruction set of this processor.

/// Cache rows [count, dim] as floats, row i at destination + i · stride. REQUIRES: dim % 32 == 0
/// for q8_0.
void expand_rows(DType type, const std::byte* rows, int count, int dim, float* destination,
                 std::size_t stride);

/// destination[column · stride + row] = source[row · dim + column] for `rows` rows of dim columns.
void transpose(const float* source, int rows, int dim, float* destination, std::size_t stride);

/// Stores dim floats as a cache row; equals write_cache_row bit for bit, NaN payloads aside.
void store_row(DType type, const float* source, int dim, std::byte* row);

/// sums[i] += values[i].
void add_to_sums(const float* values, int count, double* sums);

}  // namespace sift::cpu
