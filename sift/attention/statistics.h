#pragma once

#include <cstdint>
#include <optional>

namespace sift {

/// What one query head of one layer did over the generated rows of a request. In an evaluation
/// every row after the prompt counts as generated.
struct HeadTally {
  std::int64_t rows = 0;  ///< generated rows
  std::int64_t rows_after_warmup = 0;
  double pruned = 0;  ///< Σ pruned keys / visible keys
  double pruned_after_warmup = 0;
  double kept_mass_after_warmup = 0;  ///< Σ kept mass
  std::int64_t empty_rows = 0;

  HeadTally& operator+=(const HeadTally& other);
};

/// What one KV head of one layer did over the generated rows of a request.
struct GroupTally {
  std::int64_t sparse_rows = 0;
  std::int64_t dense_rows = 0;
  std::int64_t rows_after_warmup = 0;
  double union_after_warmup = 0;  ///< Σ V rows read / visible keys
  std::int64_t value_rows_read = 0;
  std::int64_t value_rows_dense = 0;  ///< what dense attention would have read

  GroupTally& operator+=(const GroupTally& other);
};

/// The `attention` object of reports. Means run over generated rows, layers and heads; they are
/// empty for `full`, and where there was no such row.
struct AttentionStatistics {
  std::optional<double> realised_sparsity;               ///< warm-up rows count as 0
  std::optional<double> realised_sparsity_after_warmup;  ///< rows after the warm-up
  std::optional<double> union_density;                   ///< rows after the warm-up
  std::optional<double> kept_mass;                       ///< rows after the warm-up
  std::int64_t v_bytes_read = 0;
  std::int64_t v_bytes_dense = 0;
  std::int64_t sparse_steps = 0;     ///< tokens × layers
  std::int64_t dense_steps = 0;      ///< tokens × layers
  std::int64_t degenerate_fits = 0;  ///< layers × heads
  std::int64_t ill_determined = 0;   ///< layers × heads
  std::int64_t empty_steps = 0;      ///< tokens × layers × heads
};

/// Sums over layers and heads of one or more requests, from which the means follow.
struct AttentionTotals {
  HeadTally heads;
  GroupTally groups;
  std::int64_t kv_heads = 1;         ///< to turn rows per KV head into steps
  std::int64_t value_row_bytes = 0;  ///< bytes of one cached V row of one KV head
  std::int64_t degenerate_fits = 0;
  std::int64_t ill_determined = 0;
  bool dense_policy = true;  ///< the policy is `full`: there are no sparsities to report

  /// REQUIRES: both come from the same policy and model, or one is empty.
  AttentionTotals& operator+=(const AttentionTotals& other);
  AttentionStatistics summary() const;
};

}  // namespace sift
