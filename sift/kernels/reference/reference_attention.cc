#include "sift/kernels/reference/reference_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/core/error.h"
#include "sift/sifting/quantile.h"

namespace sift::reference {
namespace {

struct Scores {
  std::vector<double> values;  // [visible], scaled, natural logarithm domain
  double maximum = 0;
  double log_sum_exp = 0;

  double weight(std::int64_t key) const {
    return std::exp(values[static_cast<std::size_t>(key)] - log_sum_exp);
  }
};

using Rows = std::vector<float>;  // [visible, head_dim]

Rows read_rows(const CacheView& cache, int kv_head, std::int64_t count, bool keys) {
  const int dim = cache.layout.head_dim;
  Rows rows(static_cast<std::size_t>(count) * dim);
  for (std::int64_t slot = 0; slot < count; ++slot) {
    const std::byte* row = keys ? cache.key_row(kv_head, slot) : cache.value_row(kv_head, slot);
    read_cache_row(cache.layout.type, row, dim, rows.data() + slot * dim);
  }
  return rows;
}

void check_scores(const Scores& scores, int layer, int head) {
  for (const double value : scores.values) {
    if (std::isnan(value) || value == std::numeric_limits<double>::infinity()) {
      throw Error(ErrorKind::numerical,
                  fmt::format("attention score {} in layer {}, head {}: expected a finite number",
                              value, layer, head));
    }
  }
  if (scores.maximum == -std::numeric_limits<double>::infinity()) {
    throw Error(ErrorKind::numerical,
                fmt::format("no finite attention score in layer {}, head {}", layer, head));
  }
}

Scores score_keys(const float* query, const Rows& keys, int dim, int layer, int head) {
  Scores scores;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  scores.values.resize(keys.size() / dim);
  for (std::size_t key = 0; key < scores.values.size(); ++key) {
    double sum = 0;
    for (int d = 0; d < dim; ++d) {
      sum += static_cast<double>(query[d]) * static_cast<double>(keys[key * dim + d]);
    }
    scores.values[key] = sum * scale;
  }
  scores.maximum = *std::max_element(scores.values.begin(), scores.values.end());
  check_scores(scores, layer, head);
  double sum = 0;
  for (const double value : scores.values) sum += std::exp(value - scores.maximum);
  scores.log_sum_exp = scores.maximum + std::log(sum);
  return scores;
}

/// Which keys the row keeps, one flag per key, and what is reported of them.
struct Selection {
  std::vector<char> kept;  // [visible]
  HeadFacts facts;
};

Selection select_keys(const AttentionState& state, const Scores& scores, double ln_threshold) {
  const auto visible = static_cast<std::int64_t>(scores.values.size());
  const double limit = ln_threshold + scores.log_sum_exp;
  Selection selection;
  selection.kept.assign(scores.values.size(), 0);
  HeadFacts& facts = selection.facts;
  for (std::int64_t key = 0; key < visible; ++key) {
    const bool forced = state.is_forced(key, visible);
    const bool passes = scores.values[key] > limit;
    if (!forced && !passes) continue;
    selection.kept[key] = 1;
    facts.kept += 1;
    facts.kept_eligible += forced ? 0 : 1;
    facts.kept_mass += scores.weight(key);
  }
  facts.empty = facts.kept == 0;
  if (facts.empty && state.policy().empty == EmptyRow::highest) {
    const auto best = std::max_element(scores.values.begin(), scores.values.end());
    const auto key = best - scores.values.begin();
    selection.kept[key] = 1;
    facts.kept = 1;
    facts.kept_mass = scores.weight(key);
  }
  return selection;
}

std::vector<double> weighted_values(const Scores& scores, const Selection& selection,
                                    const Rows& values, int dim) {
  std::vector<double> sum(dim, 0.0);
  for (std::size_t key = 0; key < scores.values.size(); ++key) {
    if (!selection.kept[key]) continue;
    const double weight = scores.weight(static_cast<std::int64_t>(key));
    for (int d = 0; d < dim; ++d) sum[d] += weight * static_cast<double>(values[key * dim + d]);
  }
  return sum;
}

void compensate(Compensate kind, double kept_mass, const Rows& values, int dim,
                std::vector<double>& sum) {
  if (kind == Compensate::renormalise && kept_mass > 0) {
    for (double& value : sum) value /= kept_mass;
  }
  if (kind == Compensate::mean) {
    const std::size_t rows = values.size() / dim;
    for (int d = 0; d < dim; ++d) {
      double total = 0;
      for (std::size_t row = 0; row < rows; ++row) total += values[row * dim + d];
      sum[d] += (1 - kept_mass) * total / static_cast<double>(rows);
    }
  }
}

/// Attention of one KV head's group of query heads.
class Group {
 public:
  Group(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row,
        int kv_head)
      : state_(state),
        layer_(layer),
        row_(row),
        kv_head_(kv_head),
        dim_(cache.layout.head_dim),
        keys_(read_rows(cache, kv_head, row.visible, true)),
        values_(read_rows(cache, kv_head, row.visible, false)),
        union_(static_cast<std::size_t>(row.visible), 0) {}

  void attend(RowMode mode, std::span<const float> query, std::span<float> output) {
    const int group = state_.shape().group_size();
    for (int head = kv_head_ * group; head < (kv_head_ + 1) * group; ++head) {
      attend_head(mode, head, query.data() + head * dim_, output.data() + head * dim_);
    }
    if (mode == RowMode::sift) report_union();
  }

 private:
  void attend_head(RowMode mode, int head, const float* query, float* output) {
    const Scores scores = score_keys(query, keys_, dim_, layer_, head);
    Selection selection;
    if (mode == RowMode::sift) {
      selection = select_keys(state_, scores, state_.ln_threshold(layer_, head, row_));
    } else {
      selection.kept.assign(scores.values.size(), 1);
    }
    std::vector<double> sum = weighted_values(scores, selection, values_, dim_);
    if (mode == RowMode::record) {
      std::vector<double> copy = scores.values;
      state_.record(layer_, head, row_,
                    ln_softmax_quantile(copy, scores.log_sum_exp, state_.policy().tau));
    }
    if (mode == RowMode::sift) {
      compensate(state_.policy().compensate, selection.facts.kept_mass, values_, dim_, sum);
      state_.observe_head(layer_, head, row_, selection.facts);
      for (std::size_t key = 0; key < union_.size(); ++key) union_[key] |= selection.kept[key];
    }
    for (int d = 0; d < dim_; ++d) output[d] = static_cast<float>(sum[d]);
  }

  void report_union() {
    std::int64_t rows = 0;
    std::int64_t eligible = 0;
    for (std::int64_t key = 0; key < row_.visible; ++key) {
      rows += union_[key];
      eligible += union_[key] && !state_.is_forced(key, row_.visible) ? 1 : 0;
    }
    state_.observe_group(layer_, kv_head_, row_, rows, eligible);
  }

  AttentionState& state_;
  int layer_;
  RowIdentity row_;
  int kv_head_;
  int dim_;
  Rows keys_;
  Rows values_;
  std::vector<char> union_;  // [visible]: kept by any head of the group
};

}  // namespace

void attend_row(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row,
                std::span<const float> query, std::span<float> output) {
  const RowMode mode = state.mode(row);
  for (int kv_head = 0; kv_head < cache.layout.kv_heads; ++kv_head) {
    Group(state, layer, cache, row, kv_head).attend(mode, query, output);
  }
  if (mode != RowMode::sift) state.observe_dense(layer, row);
}

}  // namespace sift::reference
