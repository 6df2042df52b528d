#include "sift/kernels/reference/reference_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/cache/retained_rows.h"
#include "sift/core/error.h"
#include "sift/core/key_shadow.h"
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

using Rows = std::vector<float>;          // [visible, head_dim]
using Slots = std::vector<std::int64_t>;  // [visible]

Rows read_rows(const CacheView& cache, int kv_head, const Slots& slots, bool keys) {
  const int dim = cache.layout.head_dim;
  Rows rows(slots.size() * dim);
  float* to = rows.data();
  for (const std::int64_t slot : slots) {
    const std::byte* row = keys ? cache.key_row(kv_head, slot) : cache.value_row(kv_head, slot);
    read_cache_row(cache.layout.type, row, dim, to);
    to += dim;
  }
  return rows;
}

/// Where the rows lie while nothing is evicted.
Slots all_slots(std::int64_t count) {
  Slots slots(static_cast<std::size_t>(count));
  std::iota(slots.begin(), slots.end(), 0);
  return slots;
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

void sum_up(const std::vector<double>& values, Scores& scores) {
  scores.maximum = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const double value : values) sum += std::exp(value - scores.maximum);
  scores.log_sum_exp = scores.maximum + std::log(sum);
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
  sum_up(scores.values, scores);
  check_scores(scores, layer, head);
  return scores;
}

/// The score that a key must exceed.
double score_limit(const Policy& policy, double ln_threshold, const Scores& scores) {
  return policy.threshold == Threshold::raw ? ln_threshold : ln_threshold + scores.log_sum_exp;
}

/// Which keys the row keeps, one flag per key, and what is reported of them.
struct Selection {
  std::vector<char> kept;  // [visible]
  HeadFacts facts;
};

/// Adds a key that a row keeps.
void keep(std::int64_t key, bool is_forced, const Scores& scores, Selection& selection) {
  selection.kept[static_cast<std::size_t>(key)] = 1;
  selection.facts.kept += 1;
  selection.facts.kept_eligible += is_forced ? 0 : 1;
  selection.facts.kept_mass += scores.weight(key);
}

Selection select_keys(const AttentionState& state, const Scores& scores, double ln_threshold) {
  const auto visible = static_cast<std::int64_t>(scores.values.size());
  const double limit = score_limit(state.policy(), ln_threshold, scores);
  Selection selection;
  selection.kept.assign(scores.values.size(), 0);
  HeadFacts& facts = selection.facts;
  for (std::int64_t key = 0; key < visible; ++key) {
    const bool forced = state.is_forced(key, visible);
    const bool passes = scores.values[key] > limit;
    if (forced || passes) keep(key, forced, scores, selection);
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

/// The forced keys, and of the others those with the largest scores, the first of equals. A key of
/// −Inf is never among them.
Selection select_largest(const AttentionState& state, const Scores& scores) {
  const auto visible = static_cast<std::int64_t>(scores.values.size());
  Selection selection;
  selection.kept.assign(scores.values.size(), 0);
  std::vector<std::int64_t> eligible;
  for (std::int64_t key = 0; key < visible; ++key) {
    if (state.is_forced(key, visible)) {
      keep(key, true, scores, selection);
    } else if (scores.values[key] != -std::numeric_limits<double>::infinity()) {
      eligible.push_back(key);
    }
  }
  std::ranges::stable_sort(eligible, std::greater(),
                           [&](std::int64_t key) { return scores.values[key]; });
  const std::int64_t count = std::min(state.ranked_keys(visible), std::ssize(eligible));
  for (std::int64_t i = 0; i < count; ++i) keep(eligible[i], false, scores, selection);
  selection.facts.empty = selection.facts.kept == 0;
  return selection;
}

/// The keys that the policy's own code keeps.
Selection select_custom(AttentionState& state, int layer, int head, const RowIdentity& row,
                        const Scores& scores) {
  const std::vector<float> rounded(scores.values.begin(), scores.values.end());
  std::vector<char> kept(rounded.size());
  state.select_keys(layer, head, row, rounded, scores.log_sum_exp, kept);
  Selection selection;
  selection.kept.assign(kept.size(), 0);
  for (std::int64_t key = 0; key < row.visible; ++key) {
    if (kept[key]) keep(key, state.is_forced(key, row.visible), scores, selection);
  }
  selection.facts.empty = selection.facts.kept == 0;
  return selection;
}

/// Keys whose estimate comes within the margin of the threshold, forced ones, and, where there are
/// none, the one with the highest estimate: one flag per key.
std::vector<char> find_candidates(const AttentionState& state, const Scores& estimates,
                                  double ln_threshold) {
  const auto visible = static_cast<std::int64_t>(estimates.values.size());
  const double limit = score_limit(state.policy(), ln_threshold, estimates) - state.policy().margin;
  std::vector<char> candidates(estimates.values.size(), 0);
  bool any = false;
  for (std::int64_t key = 0; key < visible; ++key) {
    candidates[key] = state.is_forced(key, visible) || estimates.values[key] > limit ? 1 : 0;
    any = any || candidates[key] != 0;
  }
  const auto highest = std::max_element(estimates.values.begin(), estimates.values.end());
  if (!any) candidates[highest - estimates.values.begin()] = 1;
  return candidates;
}

/// What sifting over candidates sees: their exact scores, −Inf for the others, and a log-sum-exp in
/// which the others stand with their estimates.
Scores correct_scores(const Scores& exact, const Scores& estimates,
                      const std::vector<char>& candidates) {
  std::vector<double> best_known = estimates.values;
  Scores corrected;
  corrected.values.assign(exact.values.size(), -std::numeric_limits<double>::infinity());
  for (std::size_t key = 0; key < candidates.size(); ++key) {
    if (!candidates[key]) continue;
    best_known[key] = exact.values[key];
    corrected.values[key] = exact.values[key];
  }
  sum_up(best_known, corrected);
  return corrected;
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

/// Σ (a − b)².
double squared_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

/// What one query head keeps and puts out.
struct Sifted {
  Selection selection;
  std::vector<double> output;  // [head_dim]
};

EstimateError error_of(const Sifted& sifted, const Sifted& exact,
                       const std::vector<char>& candidates) {
  EstimateError error;
  error.exact_kept = exact.selection.facts.kept;
  for (std::size_t key = 0; key < candidates.size(); ++key) {
    error.missed += exact.selection.kept[key] && !candidates[key] ? 1 : 0;
  }
  const std::vector<double> nothing(exact.output.size(), 0.0);
  error.output_error = relative_error(squared_distance(sifted.output, exact.output),
                                      squared_distance(exact.output, nothing));
  return error;
}

/// Attention of one KV head's group of query heads.
class Group {
 public:
  Group(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row,
        int kv_head, Slots slots)
      : state_(state),
        layer_(layer),
        cache_(cache),
        row_(row),
        kv_head_(kv_head),
        dim_(cache.layout.head_dim),
        slots_(std::move(slots)),
        keys_(read_rows(cache, kv_head, slots_, true)),
        values_(read_rows(cache, kv_head, slots_, false)),
        union_(slots_.size(), 0),
        candidates_(union_) {}

  void attend(RowMode mode, std::span<const float> query, std::span<float> output) {
    const bool estimates = mode == RowMode::sift && keeps_key_shadow(state_.policy());
    if (estimates) shadows_ = read_shadows();
    const int group = state_.shape().group_size();
    for (int head = kv_head_ * group; head < (kv_head_ + 1) * group; ++head) {
      const float* head_query = query.data() + head * dim_;
      const Scores scores = score_keys(head_query, keys_, dim_, layer_, head);
      if (mode == RowMode::record) record(head, scores);
      show(head, scores);
      const std::vector<double> result = mode != RowMode::sift ? attend_all(scores)
                                         : estimates ? sift_estimated(head, head_query, scores)
                                                     : sift_exactly(head, scores);
      std::copy(result.begin(), result.end(), output.data() + head * dim_);
    }
    if (mode == RowMode::sift) report_union();
  }

  /// Dense attention over the rows that stay, which gather its weights.
  void attend_retained(RetainedRows& rows, std::span<const float> query, std::span<float> output) {
    const int group = state_.shape().group_size();
    for (int head = kv_head_ * group; head < (kv_head_ + 1) * group; ++head) {
      const Scores scores = score_keys(query.data() + head * dim_, keys_, dim_, layer_, head);
      const std::vector<double> result = attend_all(scores);
      std::copy(result.begin(), result.end(), output.data() + head * dim_);
      for (std::size_t i = 0; i < slots_.size(); ++i) {
        rows.add_mass(slots_[i], scores.weight(static_cast<std::int64_t>(i)));
      }
    }
  }

  /// What a row of a policy that evicts attended over.
  void report_retained() {
    const std::int64_t rows = std::ssize(slots_);
    const int group = state_.shape().group_size();
    for (int head = kv_head_ * group; head < (kv_head_ + 1) * group; ++head) {
      state_.observe_head(layer_, head, row_, {.kept = rows});
    }
    state_.observe_group(layer_, kv_head_, row_, GroupFacts{.union_rows = rows});
  }

 private:
  Rows read_shadows() const {
    const KeyShadowFormat format = key_shadow_format(state_.policy(), cache_.layout.shadow_order);
    Rows rows(static_cast<std::size_t>(row_.visible) * dim_);
    for (std::int64_t slot = 0; slot < row_.visible; ++slot) {
      read_key_shadow(format, cache_.sidecar_row(Sidecar::key_shadow, kv_head_, slot), dim_,
                      rows.data() + slot * dim_);
    }
    return rows;
  }

  void record(int head, const Scores& scores) {
    std::vector<double> copy = scores.values;
    const Policy& policy = state_.policy();
    state_.record(layer_, head, row_,
                  policy.threshold == Threshold::raw
                      ? raw_quantile(copy, policy.tau)
                      : ln_softmax_quantile(copy, scores.log_sum_exp, policy.tau));
  }

  void show(int head, const Scores& scores) const {
    ScoreObserver* observer = state_.score_observer();
    if (observer == nullptr || !observer->wants(row_)) return;
    std::vector<float> copy(scores.values.begin(), scores.values.end());
    observer->take(layer_, head, row_, copy, scores.log_sum_exp);
  }

  std::vector<double> attend_all(const Scores& scores) const {
    Selection all;
    all.kept.assign(scores.values.size(), 1);
    return weighted_values(scores, all, values_, dim_);
  }

  Sifted sift(int head, const Scores& scores, double ln_threshold) const {
    Sifted sifted;
    const Select select = state_.policy().select;
    sifted.selection = select == Select::largest ? select_largest(state_, scores)
                       : select == Select::custom
                           ? select_custom(state_, layer_, head, row_, scores)
                           : select_keys(state_, scores, ln_threshold);
    sifted.output = weighted_values(scores, sifted.selection, values_, dim_);
    compensate(state_.policy().compensate, sifted.selection.facts.kept_mass, values_, dim_,
               sifted.output);
    return sifted;
  }

  std::vector<double> sift_exactly(int head, const Scores& scores) {
    const bool has_threshold = state_.policy().select == Select::above;
    const Sifted sifted =
        sift(head, scores, has_threshold ? state_.ln_threshold(layer_, head, row_) : 0);
    observe(head, sifted.selection);
    return sifted.output;
  }

  std::vector<double> sift_estimated(int head, const float* query, const Scores& exact_scores) {
    const double ln_threshold = state_.ln_threshold(layer_, head, row_);
    const Scores estimates = score_keys(query, shadows_, dim_, layer_, head);
    const std::vector<char> candidates = find_candidates(state_, estimates, ln_threshold);
    const Sifted sifted =
        sift(head, correct_scores(exact_scores, estimates, candidates), ln_threshold);
    state_.observe_error(layer_, head, row_,
                         error_of(sifted, sift(head, exact_scores, ln_threshold), candidates));
    for (std::size_t key = 0; key < candidates.size(); ++key) candidates_[key] |= candidates[key];
    observe(head, sifted.selection);
    return sifted.output;
  }

  void observe(int head, const Selection& selection) {
    state_.observe_head(layer_, head, row_, selection.facts);
    for (std::size_t key = 0; key < union_.size(); ++key) union_[key] |= selection.kept[key];
  }

  void report_union() {
    GroupFacts facts;
    for (std::int64_t key = 0; key < row_.visible; ++key) {
      facts.union_rows += union_[key];
      facts.union_eligible += union_[key] && !state_.is_forced(key, row_.visible) ? 1 : 0;
      facts.candidate_rows += candidates_[key];
    }
    state_.observe_group(layer_, kv_head_, row_, facts);
  }

  AttentionState& state_;
  int layer_;
  const CacheView& cache_;
  RowIdentity row_;
  int kv_head_;
  int dim_;
  Slots slots_;  // of the rows that are attended over, by position
  Rows keys_;
  Rows values_;
  Rows shadows_;                  // of the keys, where scores are estimated
  std::vector<char> union_;       // [visible]: kept by any head of the group
  std::vector<char> candidates_;  // [visible]: of any head of the group
};

}  // namespace

void attend_row(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row,
                std::span<const float> query, std::span<float> output) {
  const RowMode mode = state.mode(row);
  for (int kv_head = 0; kv_head < cache.layout.kv_heads; ++kv_head) {
    Group(state, layer, cache, row, kv_head, all_slots(row.visible)).attend(mode, query, output);
  }
  if (mode != RowMode::sift) state.observe_dense(layer, row);
}

void attend_retained_rows(AttentionState& state, int layer, const CacheView& cache,
                          const Segment& segment, std::span<const float> query,
                          std::span<float> output) {
  const std::size_t width = query.size() / static_cast<std::size_t>(segment.row_count);
  // Rows that run dense come before those that do not, and are counted first.
  for (std::int64_t index = 0; index < segment.row_count; ++index) {
    const RowIdentity row = segment.identity(index);
    if (state.mode(row) != RowMode::sift) state.observe_dense(layer, row);
  }
  for (int kv_head = 0; kv_head < cache.layout.kv_heads; ++kv_head) {
    RetainedRows rows(state.policy(), cache, kv_head, segment.sequence->length());
    for (std::int64_t index = 0; index < segment.row_count; ++index) {
      const RowIdentity row = segment.identity(index);
      if (row.generated > 0) rows.evict();
      rows.admit();
      const std::size_t offset = static_cast<std::size_t>(index) * width;
      Group group(state, layer, cache, row, kv_head, rows.slots_by_position());
      group.attend_retained(rows, query.subspan(offset, width), output.subspan(offset, width));
      if (row.generated > 0) rows.evict();
      if (state.mode(row) == RowMode::sift) group.report_retained();
    }
    rows.settle();
  }
}

}  // namespace sift::reference
