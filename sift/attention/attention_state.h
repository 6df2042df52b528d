#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sift/attention/automatic_warmup.h"
#include "sift/attention/calibration.h"
#include "sift/attention/key_selector.h"
#include "sift/attention/method_rules.h"
#include "sift/attention/policy.h"
#include "sift/attention/score_observer.h"
#include "sift/attention/statistics.h"
#include "sift/sifting/record_fit.h"

namespace sift {

/// Sizes that attention needs to know.
struct AttentionShape {
  int layers = 0;
  int heads = 0;     ///< query heads
  int kv_heads = 0;  ///< key-value heads; heads is a multiple of it
  int head_dim = 0;

  int group_size() const { return heads / kv_heads; }
};

/// What a query head keeps beside its HeadState for fits that need the records themselves.
struct HeadRecords {
  std::vector<QuantileRecord> records;  ///< at most `warmup`
  double ln_offset = -HUGE_VAL;         ///< of the law, once it is fitted
};

/// All state that a policy carries for one request: per layer and query head the fit and the
/// threshold's correction, per layer and KV head the running sum of V rows, and what ran.
///
/// Different (layer, head) may be used from different threads at once; one (layer, head) sees its
/// rows in order.
class AttentionState {
 public:
  /// Throws Error (invalid_argument) for a size that is not positive, or heads that do not divide
  /// evenly into groups, a head dimension that the policy's sidecars cannot have, or a custom
  /// policy without a selector.
  AttentionState(const Policy& policy, const AttentionShape& shape);

  const Policy& policy() const { return policy_; }
  const AttentionShape& shape() const { return shape_; }

  /// Fixes the prompt's length, before the first row runs; without the call it is 0. Only rows of
  /// this prompt calibrate: prompt rows of later turns run dense. `calibrate=prefill` with fewer
  /// than 64 prompt tokens becomes `decode`; notice() says so.
  void begin_prompt(std::int64_t prompt_tokens);

  /// How the request calibrates: see calibration().
  Calibrate calibrate() const { return calibrate_; }

  /// A sentence about what runs otherwise than asked, empty if nothing does.
  const std::string& notice() const { return notice_; }

  /// The last generated row whose mode is known before a pass that runs it, or the rows before it,
  /// has ended (end_pass); the largest number where nothing is left open. Only `warmup=auto` leaves
  /// something open.
  std::int64_t last_settled_row() const { return last_settled_; }

  /// Called when all layers have run all rows up to generated row `generated`.
  void end_pass(std::int64_t generated);

  /// How `row` attends, gate aside. Throws Error (invalid_argument) for a row after
  /// last_settled_row().
  RowMode mode(const RowIdentity& row) const;

  /// Takes what a `record` row recorded: ln θ, or the quantile of its scores (threshold=raw).
  void record(int layer, int head, const RowIdentity& row, double quantile);

  /// ln η for a `sift` row of Select::above, or the raw score that keys must exceed
  /// (threshold=raw), fitting first if that has not happened yet.
  double ln_threshold(int layer, int head, const RowIdentity& row);

  /// Which keys a `sift` row of Select::custom keeps, forced ones included: kept[i] is 1, or 0.
  /// `scores` and `log_sum_exp` are as in HeadScores.
  void select_keys(int layer, int head, const RowIdentity& row, std::span<const float> scores,
                   double log_sum_exp, std::span<char> kept);

  /// Takes what a sifted row did with one query head.
  void observe_head(int layer, int head, const RowIdentity& row, const HeadFacts& facts);
  /// Takes what a sifted row did with one KV head. Call after observe_head of all heads of the
  /// group.
  void observe_group(int layer, int kv_head, const RowIdentity& row, const GroupFacts& facts);
  /// The same where scores are exact.
  void observe_group(int layer, int kv_head, const RowIdentity& row, std::int64_t union_rows,
                     std::int64_t union_eligible) {
    observe_group(layer, kv_head, row, GroupFacts{union_rows, union_eligible});
  }
  /// Takes how far one query head of a sifted row came from exact sifting, where its exact scores
  /// were at hand.
  void observe_error(int layer, int head, const RowIdentity& row, const EstimateError& error);
  /// Takes a generated row that ran dense (dense or record mode, or by the gate), for a whole
  /// layer: nothing pruned, all mass kept, all K and V rows read.
  void observe_dense(int layer, const RowIdentity& row);

  /// Shows the scores of all rows from here on to `observer`; null ends it. Meanwhile no row is
  /// gated. REQUIRES: the observer outlives the rows, and the policy evicts none.
  void show_scores_to(ScoreObserver* observer) { observer_ = observer; }
  ScoreObserver* score_observer() const { return observer_; }

  /// Keys of a row with `visible` keys that are kept or dropped by their score.
  std::int64_t eligible_keys(std::int64_t visible) const {
    return sift::eligible_keys(options_, visible);
  }
  /// Of them, those that Select::largest keeps.
  std::int64_t ranked_keys(std::int64_t visible) const {
    return sift::ranked_keys(options_, policy_.keep, visible);
  }
  /// Whether key `index` of `visible` is kept whatever its score (sink, recent).
  bool is_forced(std::int64_t index, std::int64_t visible) const {
    return index < policy_.sink || index >= visible - policy_.recent;
  }

  /// Running sum of the V rows appended so far [head_dim], for `compensate=mean`; kernels that
  /// append add to it.
  double* value_sum(int layer, int kv_head) {
    return value_sums_.data() +
           (static_cast<std::size_t>(layer) * shape_.kv_heads + kv_head) * shape_.head_dim;
  }

  const HeadState& head_state(int layer, int head) const { return heads_[index(layer, head)]; }

  /// Bytes of the arrays that this state holds.
  std::size_t bytes() const;

  /// Generated rows that recorded so far.
  std::int64_t recorded_rows() const;

  /// Sums up what ran so far. `row_bytes`: bytes of one cached K or V row of one KV head.
  AttentionTotals totals(std::int64_t row_bytes) const;

 private:
  bool is_raw() const { return policy_.threshold == Threshold::raw; }
  bool keeps_records() const { return !records_.empty(); }
  OffsetPowerLaw solve(std::size_t at) const;
  void predict_records(std::size_t at, const RowIdentity& row, double quantile);
  std::size_t index(int layer, int head) const {
    return static_cast<std::size_t>(layer) * shape_.heads + head;
  }
  std::size_t group_index(int layer, int kv_head) const {
    return static_cast<std::size_t>(layer) * shape_.kv_heads + kv_head;
  }

  Policy policy_;
  AttentionShape shape_;
  std::int64_t prompt_tokens_ = 0;
  Calibrate calibrate_ = Calibrate::decode;  ///< the policy's, or decode for too short a prompt
  MethodOptions options_;                    ///< of the policy and `calibrate_`
  std::string notice_;
  std::int64_t last_settled_ = std::numeric_limits<std::int64_t>::max();
  ScoreObserver* observer_ = nullptr;
  std::vector<HeadState> heads_;           ///< [layers, heads]
  std::vector<HeadRecords> records_;       ///< [layers, heads]; empty where fits need sums only
  std::optional<AutomaticWarmup> warmup_;  ///< while it decides
  /// [layers, heads] for Select::custom
  std::vector<std::unique_ptr<KeySelector>> selectors_;
  std::vector<double> value_sums_;         ///< [layers, kv_heads, head_dim]
  std::vector<HeadTally> head_tallies_;    ///< [layers, heads]
  std::vector<GroupTally> group_tallies_;  ///< [layers, kv_heads]
};

/// Bytes that the state of a request takes, all records taken.
std::size_t attention_state_bytes(const Policy& policy, const AttentionShape& shape);

}  // namespace sift
