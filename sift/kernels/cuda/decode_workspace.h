#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/kernels/cuda/decode_arguments.h"

namespace sift::cuda {

/// Keys that are selected and copied together.
inline constexpr int kChunkKeys = 256;

/// Most requests of one call.
inline constexpr int kMaximumBatch = 512;
/// Most query heads that share a KV head.
inline constexpr int kMaximumGroup = 16;

/// Maximum of the scores of an item and Σ 2^(score − maximum), of one head.
struct ItemSum {
  float maximum = 0;
  float sum = 0;
};

/// What follows from all scores of one sifted head (base 2).
struct alignas(16) HeadPlan {
  float maximum = 0;
  float log_sum_exp = 0;
  float threshold = 0;         ///< keys pass with a greater score
  std::int32_t only_key = -1;  ///< the key that is kept though nothing passes
  std::int32_t empty = 0;
};

/// What one head kept of one item; the mass is relative to the head's maximum.
struct ItemKept {
  std::int32_t kept = 0;
  std::int32_t kept_eligible = 0;
  float mass = 0;
};

/// Counters of one KV head of one request. All are zero between launches.
struct UnitProgress {
  unsigned scored = 0;   ///< items whose scores are complete
  unsigned planned = 0;  ///< whether plans are there
  unsigned valued = 0;   ///< items whose values are added
  unsigned unused = 0;
};

/// Counters of the whole launch. All are zero between launches.
struct LaunchProgress {
  unsigned claimed = 0;
  unsigned left = 0;  ///< blocks that found no more work
};

/// The caller's workspace, cut up. Items are numbered over requests, KV heads and
/// runs of chunks.
struct DecodeWorkspace {
  int item_capacity = 0;
  LaunchProgress* launch = nullptr;
  UnitProgress* units = nullptr;    ///< [batch, kv_heads]
  HeadPlan* plans = nullptr;        ///< [batch, heads]
  ItemSum* item_sums = nullptr;     ///< [items, group]
  ItemKept* item_kept = nullptr;    ///< [items, group]
  GroupFacts* item_rows = nullptr;  ///< [items]
  float* partials = nullptr;        ///< [items, group, head_dim]
  float* scores = nullptr;          ///< [chunks, kChunkKeys, group]
};

}  // namespace sift::cuda
