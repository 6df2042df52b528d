#pragma once

#include <cstdint>

#include "sift/cache/kv_cache.h"

namespace sift::cpu {

/// Appends `count` rows of one layer to a sequence's cache, at slots first_slot, first_slot + 1, …,
/// and adds the V rows, as the cache now holds them, to the state's running sums in row order.
/// keys, values: [count, kv_heads, head_dim]; keys are rotated. The cache's bytes equal those of
/// write_cache_row and write_sidecars.
void append_rows(const CacheView& cache, AttentionState& state, int layer, std::int64_t first_slot,
                 std::int64_t count, const float* keys, const float* values);

}  // namespace sift::cpu
