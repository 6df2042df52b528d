#include "sift/attention/statistics.h"

namespace sift {
namespace {

std::optional<double> mean(double sum, std::int64_t count) {
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

}  // namespace

HeadTally& HeadTally::operator+=(const HeadTally& other) {
  rows += other.rows;
  rows_after_warmup += other.rows_after_warmup;
  pruned += other.pruned;
  pruned_after_warmup += other.pruned_after_warmup;
  kept_mass_after_warmup += other.kept_mass_after_warmup;
  empty_rows += other.empty_rows;
  return *this;
}

GroupTally& GroupTally::operator+=(const GroupTally& other) {
  sparse_rows += other.sparse_rows;
  dense_rows += other.dense_rows;
  rows_after_warmup += other.rows_after_warmup;
  union_after_warmup += other.union_after_warmup;
  value_rows_read += other.value_rows_read;
  value_rows_dense += other.value_rows_dense;
  return *this;
}

AttentionTotals& AttentionTotals::operator+=(const AttentionTotals& other) {
  if (other.heads.rows > 0) {
    // The first request with rows tells an empty accumulator what it is of.
    kv_heads = other.kv_heads;
    value_row_bytes = other.value_row_bytes;
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
    statistics.kept_mass = mean(heads.kept_mass_after_warmup, heads.rows_after_warmup);
  }
  statistics.v_bytes_read = groups.value_rows_read * value_row_bytes;
  statistics.v_bytes_dense = groups.value_rows_dense * value_row_bytes;
  statistics.sparse_steps = groups.sparse_rows / kv_heads;
  statistics.dense_steps = groups.dense_rows / kv_heads;
  statistics.degenerate_fits = degenerate_fits;
  statistics.ill_determined = ill_determined;
  statistics.empty_steps = heads.empty_rows;
  return statistics;
}

}  // namespace sift
