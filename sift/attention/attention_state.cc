#include "sift/attention/attention_state.h"

#include <fmt/format.h>

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

}  // namespace

AttentionState::AttentionState(const Policy& policy, const AttentionShape& shape)
    : policy_(policy), shape_(shape), options_(method_options(policy, calibrate_)) {
  check_shape(shape);
  check_composition(policy);
  sidecar_bytes(policy, shape.head_dim);  // refuses what they cannot be made of
  const auto heads = static_cast<std::size_t>(shape.layers) * shape.heads;
  const auto groups = static_cast<std::size_t>(shape.layers) * shape.kv_heads;
  heads_.resize(heads);
  value_sums_.resize(groups * shape.head_dim);
  head_tallies_.resize(heads);
  group_tallies_.resize(groups);
}

std::size_t AttentionState::bytes() const {
  return heads_.size() * sizeof(HeadState) + value_sums_.size() * sizeof(double) +
         head_tallies_.size() * sizeof(HeadTally) + group_tallies_.size() * sizeof(GroupTally);
}

std::size_t attention_state_bytes(const AttentionShape& shape) {
  const std::size_t head = sizeof(HeadState) + sizeof(HeadTally);
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
  if (policy_.select != Select::above || calibrate_ == policy_.calibrate) return;
  notice_ = fmt::format(
      "calibrate=prefill needs a prompt of {} tokens and this one has {}: the first {} generated "
      "tokens run dense and calibrate instead (calibrate=decode).",
      kMinimumPrefillCalibration, prompt_tokens, policy_.warmup);
}

RowMode AttentionState::mode(const RowIdentity& row) const {
  if (is_dense(policy_)) return RowMode::dense;
  if (row.generated == 0) {
    const bool records = calibrate_ == Calibrate::prefill && row.visible <= prompt_tokens_ &&
                         is_prefill_record(row.visible, policy_.warmup);
    return records ? RowMode::record : RowMode::dense;
  }
  return generated_row_mode(options_, row);
}

void AttentionState::record(int layer, int head, const RowIdentity& row, double ln_theta) {
  heads_[index(layer, head)].fit.add(row.visible, ln_theta);
}

double AttentionState::ln_threshold(int layer, int head, const RowIdentity& row) {
  return sift::ln_threshold(heads_[index(layer, head)], options_.fit, row.visible);
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
  for (const HeadTally& tally : head_tallies_) totals.heads += tally;
  for (const GroupTally& tally : group_tallies_) totals.groups += tally;
  for (const HeadState& state : heads_) {
    totals.degenerate_fits += state.fitted && state.law.degenerate ? 1 : 0;
    totals.ill_determined += state.fitted && state.law.ill_determined ? 1 : 0;
  }
  return totals;
}

}  // namespace sift
