#include "sift/attention/attention_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "sift/attention/sidecars.h"
#include "sift/core/error.h"

namespace sift {
namespace {

void check_shape(const AttentionShape& shape) {
  if (shape.layers < 1 || shape.heads < 1 || shape.kv_heads < 1 || shape.head_dim < 1 ||
      shape.heads % shape.kv_heads != 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("attention over {} layers, {} heads, {} key-value heads and head "
                            "dimension {}: all must be positive, and heads a multiple of "
                            "key-value heads",
                            shape.layers, shape.heads, shape.kv_heads, shape.head_dim));
  }
}

/// Fits that look at records again.
bool needs_records(const Policy& policy) {
  return policy.select == Select::above &&
         (policy.fit == FitKind::robust || policy.fit == FitKind::offset);
}

std::vector<std::unique_ptr<KeySelector>> make_selectors(const Policy& policy, std::size_t heads) {
  std::vector<std::unique_ptr<KeySelector>> selectors;
  if (policy.select != Select::custom) return selectors;
  if (policy.make_selector == nullptr) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("attention policy '{}' chooses keys by code of its own, but names none",
                            policy.name));
  }
  while (selectors.size() < heads) selectors.push_back(policy.make_selector(policy));
  return selectors;
}

}  // namespace

AttentionState::AttentionState(const Policy& policy, const AttentionShape& shape)
    : policy_(policy), shape_(shape), options_(method_options(policy, calibrate_)) {
  check_shape(shape);
  check_composition(policy);
  sidecar_bytes(policy, shape.head_dim);  // refuses what they cannot be made of
  const auto heads = static_cast<std::size_t>(shape.layers) * shape.heads;
  const auto groups = static_cast<std::size_t>(shape.layers) * shape.kv_heads;
  heads_.resize(heads);
  if (needs_records(policy)) records_.resize(heads);
  selectors_ = make_selectors(policy, heads);
  value_sums_.resize(groups * shape.head_dim);
  head_tallies_.resize(heads);
  group_tallies_.resize(groups);
}

std::size_t AttentionState::bytes() const {
  std::size_t records = records_.size() * sizeof(HeadRecords);
  for (const HeadRecords& head : records_) {
    records += head.records.capacity() * sizeof(QuantileRecord);
  }
  return records + (warmup_ ? warmup_->bytes() : 0) + heads_.size() * sizeof(HeadState) +
         value_sums_.size() * sizeof(double) + head_tallies_.size() * sizeof(HeadTally) +
         group_tallies_.size() * sizeof(GroupTally);
}

std::size_t attention_state_bytes(const Policy& policy, const AttentionShape& shape) {
  std::size_t head = sizeof(HeadState) + sizeof(HeadTally);
  if (needs_records(policy)) {
    head += sizeof(HeadRecords) + static_cast<std::size_t>(policy.warmup) * sizeof(QuantileRecord);
  }
  const std::size_t group =
      static_cast<std::size_t>(shape.head_dim) * sizeof(double) + sizeof(GroupTally);
  return static_cast<std::size_t>(shape.layers) *
         (static_cast<std::size_t>(shape.heads) * head +
          static_cast<std::size_t>(shape.kv_heads) * group);
}

void AttentionState::begin_prompt(std::int64_t prompt_tokens) {
  prompt_tokens_ = prompt_tokens;
  calibrate_ = calibration(policy_, prompt_tokens);
  options_ = method_options(policy_, calibrate_);
  if (policy_.automatic_warmup && options_.decode_records > 0) {
    warmup_.emplace(heads_.size());
    last_settled_ = AutomaticWarmup::next_check(1);
  }
  if (policy_.select != Select::above || calibrate_ == policy_.calibrate) return;
  notice_ = fmt::format(
      "calibrate=prefill needs a prompt of {} tokens and this one has {}: the first {} generated "
      "tokens run dense and calibrate instead (calibrate=decode).",
      kMinimumPrefillCalibration, prompt_tokens, policy_.warmup);
}

// What the checks of `warmup=auto` decide holds for all layers, so that they have to wait for the
// last.
void AttentionState::end_pass(std::int64_t generated) {
  if (!warmup_ || generated < last_settled_) return;
  if (!warmup_->ends_with(generated)) {
    last_settled_ = AutomaticWarmup::next_check(generated + 1);
    return;
  }
  options_.decode_records = generated;
  last_settled_ = std::numeric_limits<std::int64_t>::max();
  warmup_.reset();
}

RowMode AttentionState::mode(const RowIdentity& row) const {
  if (row.generated > last_settled_) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("generated row {} runs before warmup=auto was decided at row {}: "
                            "expected a pass that ends there",
                            row.generated, last_settled_));
  }
  if (is_dense(policy_)) return RowMode::dense;
  if (row.generated == 0) {
    const bool records = calibrate_ == Calibrate::prefill && row.visible <= prompt_tokens_ &&
                         is_prefill_record(row.visible, policy_.warmup);
    return records ? RowMode::record : RowMode::dense;
  }
  return generated_row_mode(options_, row);
}

// A raw quantile has no floor, and none to take the place of −∞: that is refused.
void AttentionState::record(int layer, int head, const RowIdentity& row, double quantile) {
  const std::size_t at = index(layer, head);
  const double floor = is_raw() ? -HUGE_VAL : kLnThetaFloor;
  const bool usable = is_raw() ? std::isfinite(quantile) : quantile < HUGE_VAL;
  const double recorded = usable ? std::fmax(quantile, floor) : std::nan("");
  if (warmup_ && row.generated > 0) predict_records(at, row, recorded);
  heads_[at].fit.add(row.visible, recorded, floor);
  if (usable && keeps_records()) records_[at].records.push_back({row.visible, recorded});
}

void AttentionState::predict_records(std::size_t at, const RowIdentity& row, double quantile) {
  if (AutomaticWarmup::begins_block(row.generated)) warmup_->predict(at, solve(at));
  warmup_->observe(at, row.visible, quantile);
}

OffsetPowerLaw AttentionState::solve(std::size_t at) const {
  const LogLogFit& sums = heads_[at].fit;
  if (keeps_records()) return fit_records(options_.fit, sums, records_[at].records);
  // Uniform attention: scores of 1/S after the softmax, raw ones that do not depend on S.
  return {sums.solve(options_.fit, is_raw() ? 0 : kUniformSlope)};
}

double AttentionState::ln_threshold(int layer, int head, const RowIdentity& row) {
  const std::size_t at = index(layer, head);
  HeadState& state = heads_[at];
  if (!state.fitted) {
    const OffsetPowerLaw law = solve(at);
    state.law = law.power;
    state.fitted = true;
    if (keeps_records()) records_[at].ln_offset = law.ln_offset;
  }
  const OffsetPowerLaw law{state.law, keeps_records() ? records_[at].ln_offset : -HUGE_VAL};
  return law.ln_threshold(row.visible) + state.correction;
}

void AttentionState::select_keys(int layer, int head, const RowIdentity& row,
                                 std::span<const float> scores, double log_sum_exp,
                                 std::span<char> kept) {
  std::ranges::fill(kept, 0);
  const HeadScores input{layer,
                         head,
                         row,
                         scores,
                         log_sum_exp,
                         std::min(policy_.sink, row.visible),
                         std::max<std::int64_t>(row.visible - policy_.recent, 0)};
  selectors_[index(layer, head)]->select(input, kept);
  for (std::size_t key = 0; key < kept.size(); ++key) {
    if (scores[key] == -HUGE_VALF) kept[key] = 0;
    if (input.is_forced(static_cast<std::int64_t>(key))) kept[key] = 1;
  }
}

std::int64_t AttentionState::recorded_rows() const {
  if (options_.decode_records == 0) return 0;
  return static_cast<std::int64_t>(heads_.back().fit.count + heads_.back().fit.refused);
}

void AttentionState::observe_head(int layer, int head, const RowIdentity& row,
                                  const HeadFacts& facts) {
  const std::size_t at = index(layer, head);
  count_sifted(options_, row, facts, head_tallies_[at]);
  if (options_.adapt_target == AdaptTarget::head) {
    correct(heads_[at], adapt_step(options_, row, facts.kept_eligible));
  }
}

void AttentionState::observe_group(int layer, int kv_head, const RowIdentity& row,
                                   const GroupFacts& facts) {
  count_sifted(options_, row, facts, group_tallies_[group_index(layer, kv_head)]);
  if (options_.adapt_target == AdaptTarget::head) return;
  const double step = adapt_step(options_, row, facts.union_eligible);
  const int first_head = kv_head * shape_.group_size();
  for (int head = first_head; head < first_head + shape_.group_size(); ++head) {
    correct(heads_[index(layer, head)], step);
  }
}

void AttentionState::observe_error(int layer, int head, const RowIdentity& row,
                                   const EstimateError& error) {
  if (is_after_warmup(options_, row)) head_tallies_[index(layer, head)].error += error;
}

void AttentionState::observe_dense(int layer, const RowIdentity& row) {
  if (row.generated == 0) return;
  for (int head = 0; head < shape_.heads; ++head) {
    count_dense(options_, row, head_tallies_[index(layer, head)]);
  }
  for (int kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
    count_dense(options_, row, group_tallies_[group_index(layer, kv_head)]);
  }
}

AttentionTotals AttentionState::totals(std::int64_t row_bytes) const {
  AttentionTotals totals;
  totals.kv_heads = shape_.kv_heads;
  totals.row_bytes = row_bytes;
  totals.shadow_row_bytes =
      static_cast<std::int64_t>(sidecar_bytes(policy_, shape_.head_dim)[Sidecar::key_shadow]);
  totals.evicts = evicts(policy_);
  totals.dense_policy = is_dense(policy_);
  if (options_.decode_records > 0) totals.warmups = {recorded_rows()};
  for (const HeadTally& tally : head_tallies_) totals.heads += tally;
  for (const GroupTally& tally : group_tallies_) totals.groups += tally;
  for (const HeadState& state : heads_) {
    totals.degenerate_fits += state.fitted && state.law.degenerate ? 1 : 0;
    totals.ill_determined += state.fitted && state.law.ill_determined ? 1 : 0;
  }
  return totals;
}

}  // namespace sift
