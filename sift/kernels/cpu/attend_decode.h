#pragma once

#include <cstdint>

#include "sift/attention/attention_state.h"
#include "sift/cache/kv_cache.h"
#include "sift/kernels/cpu/attend_decode_workspace.h"

namespace sift::cpu {

/// Visible keys below which `gate=auto` runs dense: there the second pass over the scores and the
/// scattered reads cost more than the unread V rows save. From attend_decode_bench.
inline constexpr std::int64_t kSiftGateMinimum = 512;

/// Throws Error (invalid_argument) for a policy that attend_decode cannot run: one that estimates
/// scores with 3 or 2 bits.
void check_decode_policy(const Policy& policy);

/// Attention of one row of one sequence in one layer, all heads: threshold, attend, observe.
///
/// query: [heads, head_dim], rotated and unscaled (the scale is 1/√head_dim); output: [heads,
/// head_dim]. The row's own key and value are in the cache already (slot visible − 1) and its value
/// is in the running sums. Dense, recorded or sifted as AttentionState::mode(row) says, except that
/// a policy with `gate=auto` runs dense below kSiftGateMinimum visible keys; rows that run dense
/// count as generated rows only if they are.
///
/// Where the policy evicts, the row lies in slot cache.rows, behind the rows that stay; it attends
/// over them, dense, and the ones that stay after it fill the first slots in the end.
///
/// Results are bitwise equal for any number of OpenMP threads. Throws Error (numerical) that names
/// layer and head at a NaN or +Inf score or a row without a finite one, Error (invalid_argument)
/// for no visible key, a head dimension that is not a multiple of 16, or a policy that
/// check_decode_policy() refuses.
void attend_decode(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row,
                   const float* query, float* output, DecodeWorkspace& workspace);

}  // namespace sift::cpu
