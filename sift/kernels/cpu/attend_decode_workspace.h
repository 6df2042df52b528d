#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sift/attention/attention_state.h"
#include "sift/core/aligned_buffer.h"
#include "sift/kernels/cpu/attend_decode_kernels.h"

namespace sift::cpu {

/// Maximum of the scores of a chunk and Σ 2^(score − maximum); a maximum of −Inf counts as 0 there.
struct ChunkSum {
  float maximum = 0;
  float sum = 0;

  float reference() const;
};

/// What one head kept of one chunk. The mass is relative to the head's maximum.
struct ChunkKept {
  KeptCounts counts;
  float mass = 0;
};

/// Rows that one group read of one chunk.
struct ChunkRows {
  int values = 0;
  int values_eligible = 0;
  int candidates = 0;  ///< of K, after an estimate
};

/// What follows from all scores of one head (base 2), or from all estimates of them.
struct HeadPlan {
  float maximum = 0;           ///< of all scores, estimates that stand for them included
  double total = 0;            ///< Σ 2^(score − maximum)
  double log_sum_exp = 0;      ///< maximum + log2(total)
  float threshold = 0;         ///< keys pass with a greater score
  bool empty = false;          ///< nothing passes and nothing is forced
  std::int64_t only_key = -1;  ///< the key that is kept nevertheless
  bool not_finite = false;     ///< a score is NaN or +Inf
  bool all_minus_infinity = false;
};

/// Survivors of one chunk and where their rows lie.
struct Survivors {
  std::int64_t item = -1;                ///< the work item they belong to
  AlignedBuffer<std::uint16_t> indices;  ///< [kScoreStride]
  AlignedBuffer<float> weights;          ///< [group, kScoreStride]
  std::vector<KeptCounts> counts;        ///< [group]
  std::vector<std::uint16_t> masks;      ///< [group]
  std::vector<const std::byte*> rows;    ///< [kScoreStride + kRowsAhead]
  int row_count = 0;
  int rows_eligible = 0;
};

/// What one thread needs for itself.
struct DecodeThread {
  std::vector<const std::byte*> blocks;  ///< [kChunkKeys / kBlockKeys + kBlocksAhead]
  Survivors survivors[2];                ///< of the item at hand and of the next one
  int turn = 0;                          ///< which of them the next item takes
  std::vector<float> thresholds;         ///< [group]
  std::vector<int> only_keys;            ///< [group]
  AlignedBuffer<float> order[2];         ///< [visible keys + kBlockKeys] for order statistics
  std::vector<char> kept;                ///< [visible keys] what a custom policy keeps
  Survivors candidates;                  ///< their weights are estimated scores
  AlignedBuffer<float> exact;            ///< [group, kScoreStride] exact scores of candidates
};

/// Progress of one KV head through its chunks.
struct GroupProgress {
  std::atomic<std::int64_t> scores_left{0};
  std::atomic<std::int64_t> candidates_left{0};
  std::atomic<std::int64_t> values_left{0};
  std::atomic<bool> estimated{false};  ///< estimate_plans are made
  std::atomic<bool> planned{false};    ///< plans are made
};

/// Memory that attend_decode uses again and again: one for each caller that runs at a time.
struct DecodeWorkspace {
  explicit DecodeWorkspace(const DecodeKernels& table = decode_kernels()) : kernels(table) {}

  /// Makes room for a row. Throws std::bad_alloc.
  void ensure(const AttentionShape& shape, std::int64_t visible, RowMode mode, int threads);
  /// Bytes of the buffers whose size grows with the keys, as they are now.
  std::size_t bytes() const;

  const DecodeKernels& kernels;
  AlignedBuffer<float> query;            ///< [heads, head_dim], scaled to base 2
  AlignedBuffer<float> shadow_query;     ///< the same in the order of DecodeKernels::score_shadow
  AlignedBuffer<float> scores;           ///< [kv_heads, chunks, group, kScoreStride]
  AlignedBuffer<float> partials;         ///< [kv_heads, chunks, group, head_dim]
  std::vector<ChunkSum> chunk_sums;      ///< [kv_heads, chunks, group]
  std::vector<ChunkSum> rest_sums;       ///< the same of estimates of keys that are no candidates
  std::vector<ChunkKept> chunk_kept;     ///< [kv_heads, chunks, group]
  std::vector<ChunkRows> chunk_rows;     ///< [kv_heads, chunks]
  std::vector<HeadPlan> estimate_plans;  ///< [heads] which keys are candidates
  std::vector<HeadPlan> plans;           ///< [heads]
  std::vector<double> ln_thresholds;     ///< [heads]
  std::vector<double> ln_thetas;         ///< [heads] recorded quantiles
  std::vector<HeadFacts> facts;          ///< [heads]
  std::vector<GroupFacts> group_facts;   ///< [kv_heads]
  std::vector<GroupProgress> progress;   ///< [kv_heads]
  std::vector<DecodeThread> threads;
};

/// Bytes that DecodeWorkspace::bytes() comes to for rows that see up to `visible` keys.
std::size_t decode_workspace_bytes(const AttentionShape& shape, std::int64_t visible, RowMode mode,
                                   int threads);

}  // namespace sift::cpu
