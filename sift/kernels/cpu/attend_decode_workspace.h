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

/// Rows of V that one group read of one chunk.
struct ChunkRows {
  int rows = 0;
  int rows_eligible = 0;
};

/// What follows from all scores of one head (base 2).
struct HeadPlan {
  float maximum = 0;
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
};

/// Progress of one KV head through its chunks.
struct GroupProgress {
  std::atomic<std::int64_t> scores_left{0};
  std::atomic<std::int64_t> values_left{0};
  std::atomic<bool> planned{false};
};

/// Memory that attend_decode uses again and again: one for each caller that runs at a time.
struct DecodeWorkspace {
  explicit DecodeWorkspace(const DecodeKernels& table = decode_kernels()) : kernels(table) {}

  /// Makes room for a row. Throws std::bad_alloc.
  void ensure(const AttentionShape& shape, std::int64_t visible, RowMode mode, int threads);
  /// Bytes of the buffers whose size grows with the keys, as they are now.
  std::size_t bytes() const;

  const DecodeKernels& kernels;
  AlignedBuffer<float> query;           ///< [heads, head_dim], scaled to base 2
  AlignedBuffer<float> scores;          ///< [kv_heads, chunks, group, kScoreStride]
  AlignedBuffer<float> partials;        ///< [kv_heads, chunks, group, head_dim]
  std::vector<ChunkSum> chunk_sums;     ///< [kv_heads, chunks, group]
  std::vector<ChunkKept> chunk_kept;    ///< [kv_heads, chunks, group]
  std::vector<ChunkRows> chunk_rows;    ///< [kv_heads, chunks]
  std::vector<HeadPlan> plans;          ///< [heads]
  std::vector<double> ln_thresholds;    ///< [heads]
  std::vector<double> ln_thetas;        ///< [heads] recorded quantiles
  std::vector<HeadFacts> facts;         ///< [heads]
  std::vector<ChunkRows> group_rows;    ///< [kv_heads]
  std::vector<GroupProgress> progress;  ///< [kv_heads]
  std::vector<DecodeThread> threads;
};

/// Bytes that DecodeWorkspace::bytes() comes to for rows that see up to `visible` keys.
std::size_t decode_workspace_bytes(const AttentionShape& shape, std::int64_t visible, RowMode mode,
                                   int threads);

}  // namespace sift::cpu
