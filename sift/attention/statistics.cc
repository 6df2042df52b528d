#include "sift/attention/statistics.h"

#include <cmath>

namespace sift {
namespace {

std::optional<double> mean(double sum, std::int64_t count) {
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

}  // namespace

double relative_error(double difference_squared, double exact_squared) {
  if (difference_squared == 0) return 0;
  return exact_squared == 0 ? 1 : std::sqrt(difference_squared / exact_squared);
}

ErrorTally& ErrorTally::operator+=(const EstimateError& error) {
  return *this += ErrorTally{1, error};
}

ErrorTally& ErrorTally::operator+=(const ErrorTally& other) {
  rows += other.rows;
  sum.exact_kept += other.sum.exact_kept;
  sum.missed += other.sum.missed;
  sum.output_error += other.sum.output_error;
  return *this;
}

HeadTally& HeadTally::operator+=(const HeadTally& other) {
  rows += other.rows;
  rows_after_warmup += other.rows_after_warmup;
  pruned += other.pruned;
  pruned_after_warmup += other.pruned_after_warmup;
  kept_mass_after_warmup += other.kept_mass_after_warmup;
  error += other.error;
  empty_rows += other.empty_rows;
  return *this;
}

GroupTally& GroupTally::operator+=(const GroupTally& other) {
  sparse_rows += other.sparse_rows;
  dense_rows += other.dense_rows;
  rows_after_warmup += other.rows_after_warmup;
  union_after_warmup += other.union_after_warmup;
  candidates_after_warmup += other.candidates_after_warmup;
  value_rows_read += other.value_rows_read;
  key_rows_read += other.key_rows_read;
  shadow_rows_read += other.shadow_rows_read;
  value_rows_dense += other.value_rows_dense;
  return *this;
}

AttentionTotals& AttentionTotals::operator+=(const AttentionTotals& other) {
  if (other.heads.rows > 0) {
    // The first request with rows tells an empty accumulator what it is of.
    kv_heads = other.kv_heads;
    row_bytes = other.row_bytes;
    shadow_row_bytes = other.shadow_row_bytes;
    evicts = other.evicts;
    dense_policy = other.dense_policy;
  }
  heads += other.heads;
  groups += other.groups;
  degenerate_fits += other.degenerate_fits;
  ill_determined += other.ill_determined;
  return *this;
}

AttentionStatistics AttentionTotals::summary() const {
  AttentionStatistics statistics;
  if (!dense_policy) {
    statistics.realised_sparsity = mean(heads.pruned, heads.rows);
    statistics.realised_sparsity_after_warmup =
        mean(heads.pruned_after_warmup, heads.rows_after_warmup);
    statistics.union_density = mean(groups.union_after_warmup, groups.rows_after_warmup);
    if (!evicts) statistics.kept_mass = mean(heads.kept_mass_after_warmup, heads.rows_after_warmup);
  }
  if (shadow_row_bytes > 0) {
    statistics.candidate_density = mean(groups.candidates_after_warmup, groups.rows_after_warmup);
    const EstimateError& error = heads.error.sum;
    statistics.missed_keys = mean(static_cast<double>(error.missed), error.exact_kept);
    statistics.output_error = mean(error.output_error, heads.error.rows);
  }
  statistics.k_bytes_read =
      groups.key_rows_read * row_bytes + groups.shadow_rows_read * shadow_row_bytes;
  statistics.k_bytes_dense = groups.value_rows_dense * row_bytes;
  statistics.v_bytes_read = groups.value_rows_read * row_bytes;
  statistics.v_bytes_dense = groups.value_rows_dense * row_bytes;
  statistics.sparse_steps = groups.sparse_rows / kv_heads;
  statistics.dense_steps = groups.dense_rows / kv_heads;
  statistics.degenerate_fits = degenerate_fits;
  statistics.ill_determined = ill_determined;
  statistics.empty_steps = heads.empty_rows;
  return statistics;
}

}  // namespace sift
