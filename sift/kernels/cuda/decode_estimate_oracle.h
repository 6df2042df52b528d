#pragma once

// One sifted head over estimated scores, in double precision: what kernels are compared with. It is
// the definition of docs/method.md ("Estimated scores") in base 2, over scores that the caller has.
//
// - All comparisons are strict. Candidates are the keys whose estimate exceeds log2 η + L̂ − margin,
//   L̂ being the log-sum-exp of all estimates, and the forced keys. If there are none, the key with
//   the highest estimate is the only one, the first of equals.
// - L is the log-sum-exp of the exact scores of candidates and the estimates of all others. It
//   serves the threshold, the weights and the caller alike.
// - Kept are the candidates whose exact score exceeds log2 η + L, and the forced keys. So a
//   candidate that stood in for none may still pass.
// - If nothing is kept the head is empty, whatever follows. EmptyHead::highest then keeps the
//   candidate with the highest exact score, the first of equals; EmptyHead::zero keeps nothing.
// - Weights are 2^(s − L) of exact scores; the kept mass, at most 1, is their sum over the kept
//   keys, the one of EmptyHead::highest included. The output is Σ weight · V; `renormalise` divides
//   it by the kept mass unless that is 0, `mean` adds (1 − kept mass) · mean of all visible V.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "sift/kernels/cuda/decode_arguments.h"

namespace sift::cuda {

/// How one head chooses its keys.
struct EstimateRule {
  double log2_threshold = 0;  ///< log2 η
  double margin = 0;          ///< in base 2: that of the policy divided by ln 2
  int sink = 0;
  int recent = 0;
  EmptyHead empty = EmptyHead::highest;
};

/// What one head came to.
struct EstimatedHead {
  std::vector<char> candidates;  // [keys]
  std::vector<char> kept;        // [keys]
  std::vector<double> weights;   // [keys], 0 for keys left out
  double log_sum_exp = 0;        ///< L, base 2
  HeadFacts facts;
  /// How far the nearest score was from deciding otherwise. Scores known to within a fraction of
  /// this lead to the same choice.
  double clearance = std::numeric_limits<double>::infinity();
};

namespace oracle {

inline double log_sum_exp2(const std::vector<double>& scores) {
  const double greatest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp2(score - greatest);
  return greatest + std::log2(sum);
}

inline bool is_forced(const EstimateRule& rule, std::size_t key, std::size_t keys) {
  const auto place = static_cast<std::ptrdiff_t>(key);
  return place < rule.sink || place >= static_cast<std::ptrdiff_t>(keys) - rule.recent;
}

/// The place of the highest score, the first of equals. Lowers `clearance` to the distance of the
/// highest score that differs.
inline std::size_t highest(const std::vector<double>& scores, double& clearance) {
  const auto best = std::max_element(scores.begin(), scores.end());
  for (const double score : scores) {
    if (score < *best) clearance = std::min(clearance, *best - score);
  }
  return static_cast<std::size_t>(best - scores.begin());
}

inline void find_candidates(const std::vector<double>& estimates, const EstimateRule& rule,
                            EstimatedHead& head) {
  const double limit = rule.log2_threshold + log_sum_exp2(estimates) - rule.margin;
  bool any = false;
  head.candidates.assign(estimates.size(), 0);
  for (std::size_t key = 0; key < estimates.size(); ++key) {
    const bool forced = is_forced(rule, key, estimates.size());
    head.candidates[key] = forced || estimates[key] > limit ? 1 : 0;
    any = any || head.candidates[key] != 0;
    if (!forced) head.clearance = std::min(head.clearance, std::abs(estimates[key] - limit));
  }
  if (!any) head.candidates[highest(estimates, head.clearance)] = 1;
}

/// Exact scores of candidates; for the others what `others` has.
inline std::vector<double> corrected(const std::vector<double>& exact,
                                     const std::vector<double>& others,
                                     const std::vector<char>& candidates) {
  std::vector<double> scores = others;
  for (std::size_t key = 0; key < exact.size(); ++key) {
    if (candidates[key] != 0) scores[key] = exact[key];
  }
  return scores;
}

inline void keep(double score, std::size_t key, EstimatedHead& head) {
  head.kept[key] = 1;
  head.weights[key] = std::exp2(score - head.log_sum_exp);
  head.facts.kept += 1;
  head.facts.kept_mass += head.weights[key];
}

}  // namespace oracle

/// What a head does that has these scores [keys], base 2 and scaled. Estimates are those of the
/// shadows of the keys. REQUIRES: at least one key, and finite scores.
inline EstimatedHead sift_estimated(const std::vector<double>& exact,
                                    const std::vector<double>& estimates,
                                    const EstimateRule& rule) {
  EstimatedHead head;
  const std::size_t keys = exact.size();
  oracle::find_candidates(estimates, rule, head);
  head.log_sum_exp = oracle::log_sum_exp2(oracle::corrected(exact, estimates, head.candidates));
  head.kept.assign(keys, 0);
  head.weights.assign(keys, 0.0);
  const double limit = rule.log2_threshold + head.log_sum_exp;
  for (std::size_t key = 0; key < keys; ++key) {
    if (head.candidates[key] == 0) continue;
    const bool forced = oracle::is_forced(rule, key, keys);
    if (!forced) head.clearance = std::min(head.clearance, std::abs(exact[key] - limit));
    if (!forced && !(exact[key] > limit)) continue;
    oracle::keep(exact[key], key, head);
    head.facts.kept_eligible += forced ? 0 : 1;
  }
  head.facts.empty = head.facts.kept == 0;
  if (head.facts.empty && rule.empty == EmptyHead::highest) {
    const std::vector<double> none(keys, -std::numeric_limits<double>::infinity());
    const std::vector<double> known = oracle::corrected(exact, none, head.candidates);
    const std::size_t best = oracle::highest(known, head.clearance);
    oracle::keep(exact[best], best, head);
  }
  return head;
}

/// Rows that the heads of one KV head read: of V those that any keeps, of K those that are
/// candidates of any, forced ones included in both.
inline GroupFacts unite(const std::vector<EstimatedHead>& heads, const EstimateRule& rule) {
  GroupFacts facts;
  const std::size_t keys = heads.front().kept.size();
  for (std::size_t key = 0; key < keys; ++key) {
    bool kept = false;
    bool candidate = false;
    for (const EstimatedHead& head : heads) {
      kept = kept || head.kept[key] != 0;
      candidate = candidate || head.candidates[key] != 0;
    }
    facts.union_rows += kept ? 1 : 0;
    facts.union_eligible += kept && !oracle::is_forced(rule, key, keys) ? 1 : 0;
    facts.candidate_rows += candidate ? 1 : 0;
  }
  return facts;
}

}  // namespace sift::cuda
