#pragma once

#include <cstddef>

#include "sift/cache/kv_cache.h"
#include "sift/core/dtype.h"

namespace sift {

/// Stores `count` floats as one cache row of `type` (round to nearest even; q8_0: a block of 32
/// shares the scale max|x| / 127). The plain definition that every backend's append equals bit for
/// bit.
void write_cache_row(DType type, const float* source, int count, std::byte* row);

/// Reads one cache row back to floats.
void read_cache_row(DType type, const std::byte* row, int count, float* destination);

/// Writes what `policy` keeps beside a row, from the key that the cache holds at `slot`. Every
/// backend's append leaves the same bytes. REQUIRES: the cache has the policy's sidecars.
void write_sidecars(const Policy& policy, const CacheView& cache, int kv_head, std::int64_t slot);

}  // namespace sift
