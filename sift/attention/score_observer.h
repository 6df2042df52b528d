#pragma once

#include <cstdint>
#include <span>

#include "sift/attention/method_rules.h"

namespace sift {

/// Sees attention scores as rows run, beside the policy and without changing what it does:
/// AttentionState::show_scores_to(). What analyses measure, they measure here.
///
/// Different (layer, head, row) come from different threads at once.
class ScoreObserver {
 public:
  virtual ~ScoreObserver() = default;

  /// Whether the scores of `row` are wanted, in every layer and head.
  virtual bool wants(const RowIdentity& row) const = 0;

  /// Takes the scores of one query head over all visible keys: s = q·Kᵀ/√D, natural logarithms
  /// [visible], and their log-sum-exp. `scores` may be reordered and written over. Must not throw.
  virtual void take(int layer, int head, const RowIdentity& row, std::span<float> scores,
                    double log_sum_exp) = 0;
};

}  // namespace sift
