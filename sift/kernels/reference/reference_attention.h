#pragma once

#include <span>

#include "sift/kernels/backend.h"

namespace sift::reference {

/// Attention of one row over its visible keys, all query heads, in double: the definition of what
/// every other backend computes (docs/method.md).
///
/// query, output: [heads, head_dim]; the query is rotated and unscaled. Slots 0 … visible − 1 of
/// the sequence are in the cache. The gate never applies here. Throws Error (numerical) that names
/// layer and head at a NaN or +Inf score or a row without a finite one.
void attend_row(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row,
                std::span<const float> query, std::span<float> output);

/// The same for the rows of a segment whose policy evicts (docs/method.md, "Eviction"): each row
/// attends over the rows that stay, and decides with which the next one goes on. Their keys and
/// values are in the slots behind the cached rows; in the end the rows that stay fill the first
/// slots. query, output: [row_count, heads, head_dim].
void attend_retained_rows(AttentionState& state, int layer, const CacheView& cache,
                          const Segment& segment, std::span<const float> query,
                          std::span<float> output);

}  // namespace sift::reference
