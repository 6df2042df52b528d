#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/kernels/cuda/decode_arguments.h"
#include "sift/kernels/cuda/record_quantiles.h"

namespace sift::cuda {

/// Fewest keys of an item, the last ones of exact attention aside.
inline constexpr int kLeastItemKeys = 256;

/// Warps of a block that works on items.
inline constexpr int kBlockWarps = 4;

/// Most keys that a request may see.
inline constexpr int kMostKeys = 262144;
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
struct HeadPlan {
  float maximum = 0;
  float log_sum_exp = 0;
  float threshold = 0;     ///< keys pass with a greater score
  std::int32_t empty = 0;  ///< 1 when none does and none is forced
};

/// A key whose score is exact after an estimate.
struct alignas(8) CandidateRow {
  std::uint32_t offset = 0;  ///< of its rows of K and V, in units of 16 bytes
  std::int32_t key = 0;
};

/// Keys that one head kept.
struct KeptCount {
  std::int32_t kept = 0;
  std::int32_t kept_eligible = 0;
};

/// What the exact scores of an item's candidates and the estimates of its other keys add up to, of
/// one head.
struct RescoredSum {
  ItemSum candidates;
  ItemSum others;
};

/// Counters of one KV head of one request. All are zero between steps.
struct UnitProgress {
  std::int32_t rows = 0;
  std::int32_t rows_eligible = 0;
  std::int32_t candidates = 0;
  // Items that are complete:
  std::int32_t score_items = 0;
  std::int32_t candidate_items = 0;
};

/// Counters of a whole step. All are zero between steps.
struct StepProgress {
  unsigned dense = 0;  ///< claimed items
  // Items claimed beyond the first of each block:
  unsigned scores = 0;
  unsigned candidates = 0;
  unsigned values = 0;
};

/// The caller's workspace, cut up. A unit is one KV head of one request. Items are runs of a unit's
/// keys (decode_items.cuh). Those of sifted requests are numbered over requests, runs and KV heads,
/// dense ones behind them over requests, KV heads and runs.
struct DecodeWorkspace {
  int group = 0;                    ///< query heads of a KV head
  int log_group = -1;               ///< log2 of it, or −1 where it is no power of two
  int item_capacity = 0;            ///< of scores or values, and of dense ones, together
  std::int64_t score_capacity = 0;  ///< rows
  StepProgress* step = nullptr;
  UnitProgress* units = nullptr;  ///< [batch, kv_heads]
  KeptCount* kept = nullptr;      ///< [batch, heads], zero between steps
  HeadPlan* plans = nullptr;      ///< [batch, heads], of those that sift
  float* log_sum_exp =
      nullptr;  ///< [batch, heads], where the caller wants none but records need it
  ItemSum* item_sums = nullptr;  ///< [items of scores and dense ones, group]
  // Where scores are estimated:
  RescoredSum* rescored_sums = nullptr;      ///< [items of values, group]
  std::int32_t* candidate_counts = nullptr;  ///< [items of values, kBlockWarps]
  CandidateRow* candidate_rows = nullptr;    ///< [rows of scores]
  float* item_masses = nullptr;  ///< [items of values, group], relative to the head's maximum
  float* partials = nullptr;     ///< [items of values and dense ones, group, head_dim]
  /// A unit: [group, keys rounded up to kScoreRowPadding]; of a request that records [keys,
  /// group].
  float* scores = nullptr;
};

}  // namespace sift::cuda
