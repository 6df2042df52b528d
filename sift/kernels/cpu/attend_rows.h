#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sift/core/aligned_buffer.h"
#include "sift/kernels/backend.h"
#include "sift/kernels/cpu/row_kernels.h"

namespace sift::cpu {

/// What many-row attention needs besides its arguments; keep one per backend. Buffers grow to what
/// was needed so far: the keys of one layer as floats, at most 32 MiB; 2 MiB per thread, or one row
/// of scores of the query heads that share a KV head where that is more; and tables of
/// a few MiB. Rows with estimated scores take twice that, for the shadows of keys.
struct RowsWorkspace {
  /// Bytes of the buffers as they are now.
  std::size_t bytes() const;

  /// Buffers of one thread, which works on a block of rows and the query heads of one KV head:
  /// block rows [heads of the group, rows of the block].
  struct Scratch {
    AlignedBuffer<float> queries;           ///< [block rows, head_dim], scaled
    AlignedBuffer<float> scores;            ///< [block rows, keys], then weights
    AlignedBuffer<float> estimates;         ///< the same of estimated scores
    AlignedBuffer<float> tile;              ///< one page of keys or values as floats
    AlignedBuffer<float> rows;              ///< the same before it is transposed
    AlignedBuffer<float> sums;              ///< [block rows, padded head_dim]
    AlignedBuffer<float> exact_sums;        ///< the same by exact sifting beside estimates
    AlignedBuffer<float> copy;              ///< [keys + 16]: scores of a row
    std::vector<ScoreScan> scans;           ///< [heads of the group] of one row
    std::vector<ScoreScan> estimate_scans;  ///< the same of estimated scores
    std::vector<HeadSelection> selections;  ///< the same
    std::vector<HeadSelection> estimated;   ///< the same over candidates
  };

  /// output = sum · (weighted sum of values) + mean · (mean value).
  struct OutputFactors {
    float sum = 0;
    float mean = 0;
  };

  /// What one query head of one row came to, until it is reported in row order.
  struct HeadResult {
    double ln_threshold = 0;
    double ln_theta = 0;
    HeadFacts facts;
    OutputFactors factors;
    OutputFactors exact_factors;  ///< of exact sifting, where scores are estimated
    EstimateError error;          ///< the same
  };

  std::vector<Scratch> scratch;          ///< [threads], as many as OpenMP would use
  AlignedBuffer<float> keys;             ///< [kv_heads, pages, head_dim, kPageRows]
  AlignedBuffer<float> shadows;          ///< the same of shadows of keys
  AlignedBuffer<float> means;            ///< [kv_heads, rows, head_dim]: mean of V up to the row
  std::vector<HeadResult> head_results;  ///< [rows, heads]
  std::vector<GroupFacts> group_facts;   ///< [rows, kv_heads]
};

/// Bytes that a workspace comes to when `rows` rows, the last of which sees `keys` keys, run on
/// `threads` threads.
std::size_t rows_workspace_bytes(const AttentionShape& shape, const Policy& policy,
                                 std::int64_t rows, std::int64_t keys, int threads);

/// Attention of all rows of a segment over what each sees, by the state's policy; the gate never
/// applies. The keys and values of all rows are in the cache already, in the slots behind the
/// cached rows; where the policy evicts, the rows that stay fill the first slots in the end. query
/// (rotated, unscaled), output: [row_count, heads, head_dim].
///
/// Runs on as many threads as OpenMP is set to. A row's result depends on neither the rows that
/// stand in the same segment nor the number of threads; with eviction the segment decides in which
/// slots rows come to lie, and so the order of sums. Statistics and records are taken in row
/// order; only generated rows are observed. Throws Error (numerical) that names layer and head at a
/// NaN or +Inf score or a row without a finite one, for the first such row.
void attend_rows(AttentionState& state, int layer, const CacheView& cache, const Segment& segment,
                 const float* query, float* output, RowsWorkspace& workspace);

}  // namespace sift::cpu
