#pragma once

#include <cstdint>
#include <optional>

namespace sift {

/// What an estimated row did otherwise than exact sifting at the same threshold would have.
struct EstimateError {
  std::int64_t exact_kept = 0;  ///< keys that exact sifting keeps
  std::int64_t missed = 0;      ///< of them, those that were no candidates
  double output_error = 0;      ///< relative_error() of the output
};

/// ‖output − exact output‖ / ‖exact output‖ from the squares of the two norms; 0 where there is no
/// difference, and 1 where only the exact output is zero.
double relative_error(double difference_squared, double exact_squared);

/// Sums of such errors.
struct ErrorTally {
  std::int64_t rows = 0;
  EstimateError sum;

  ErrorTally& operator+=(const EstimateError& error);
  ErrorTally& operator+=(const ErrorTally& other);
};

/// What one query head of one layer did over the generated rows of a request. In an evaluation
/// every row after the prompt counts as generated.
struct HeadTally {
  std::int64_t rows = 0;  ///< generated rows
  std::int64_t rows_after_warmup = 0;
  double pruned = 0;  ///< Σ pruned keys / visible keys
  double pruned_after_warmup = 0;
  double kept_mass_after_warmup = 0;  ///< Σ kept mass
  ErrorTally error;                   ///< rows after the warm-up whose exact scores were at hand
  std::int64_t empty_rows = 0;

  HeadTally& operator+=(const HeadTally& other);
};

/// What one KV head of one layer did over the generated rows of a request.
struct GroupTally {
  std::int64_t sparse_rows = 0;
  std::int64_t dense_rows = 0;
  std::int64_t rows_after_warmup = 0;
  double union_after_warmup = 0;       ///< Σ V rows read / visible keys
  double candidates_after_warmup = 0;  ///< Σ candidates of any head / visible keys
  std::int64_t value_rows_read = 0;
  std::int64_t key_rows_read = 0;
  std::int64_t shadow_rows_read = 0;
  std::int64_t value_rows_dense = 0;  ///< of V, and of K, that dense attention would have read

  GroupTally& operator+=(const GroupTally& other);
};

/// The `attention` object of reports. Means run over generated rows, layers and heads; they are
/// empty for `full`, and where there was no such row.
struct AttentionStatistics {
  std::optional<double> realised_sparsity;               ///< warm-up rows count as 0
  std::optional<double> realised_sparsity_after_warmup;  ///< rows after the warm-up
  std::optional<double> union_density;                   ///< rows after the warm-up
  std::optional<double> kept_mass;          ///< rows after the warm-up; empty with eviction
  std::optional<double> candidate_density;  ///< rows after the warm-up; `estimate` only
  std::optional<double> missed_keys;        ///< where exact scores were at hand
  std::optional<double> output_error;       ///< where exact scores were at hand
  std::int64_t k_bytes_read = 0;            ///< shadows of keys included
  std::int64_t k_bytes_dense = 0;
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
  std::int64_t kv_heads = 1;          ///< to turn rows per KV head into steps
  std::int64_t row_bytes = 0;         ///< of one cached K or V row of one KV head
  std::int64_t shadow_row_bytes = 0;  ///< of the shadow of one cached K row; 0 without an estimate
  std::int64_t degenerate_fits = 0;
  std::int64_t ill_determined = 0;
  bool evicts = false;       ///< the mass of what was left out is unknown
  bool dense_policy = true;  ///< the policy is `full`: there are no sparsities to report

  /// REQUIRES: both come from the same policy and model, or one is empty.
  AttentionTotals& operator+=(const AttentionTotals& other);
  AttentionStatistics summary() const;
};

}  // namespace sift
