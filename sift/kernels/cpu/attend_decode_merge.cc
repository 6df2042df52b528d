// What DecodePass concludes from chunks: thresholds from their sums, outputs from their partial
// results. Everything here runs over chunks in order, on whichever thread came last.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "sift/kernels/cpu/attend_decode_pass.h"
#include "sift/kernels/cpu/order_statistics.h"

namespace sift::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kLog2E = 1.44269504088896340736;
constexpr double kLn2 = 0.693147180559945309417;

/// The greatest float that is not above `limit`: a float exceeds it exactly when it exceeds
/// `limit`.
float round_down(double limit) {
  const auto nearest = static_cast<float>(limit);
  return static_cast<double>(nearest) > limit ? std::nextafter(nearest, -kInfinity) : nearest;
}

}  // namespace

void DecodePass::finish_estimates(int kv_head) {
  GroupProgress& progress = workspace_.progress[kv_head];
  if (progress.scores_left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (int i = 0; i < layout_.group; ++i) plan_estimates(kv_head * layout_.group + i);
  progress.estimated.store(true, std::memory_order_release);
}

void DecodePass::finish_candidates(int kv_head) {
  GroupProgress& progress = workspace_.progress[kv_head];
  if (progress.candidates_left.fetch_sub(1, std::memory_order_acq_rel) == 1) plan_group(kv_head);
}

void DecodePass::finish_scores(int kv_head) {
  GroupProgress& progress = workspace_.progress[kv_head];
  if (progress.scores_left.fetch_sub(1, std::memory_order_acq_rel) == 1) plan_group(kv_head);
}

void DecodePass::plan_group(int kv_head) {
  for (int i = 0; i < layout_.group; ++i) {
    const int head = kv_head * layout_.group + i;
    plan_head(head);
    if (mode_ != RowMode::sift) merge_dense(head);
  }
  workspace_.progress[kv_head].planned.store(true, std::memory_order_release);
}

// Adds up the chunks' sums of a head's scores, in one or more parts.
HeadPlan DecodePass::plan_sum(int head,
                              std::initializer_list<const std::vector<ChunkSum>*> parts) const {
  HeadPlan plan;
  plan.maximum = -kInfinity;
  for (const std::vector<ChunkSum>* sums : parts) {
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const ChunkSum& sum = (*sums)[head_chunk_index(head, chunk)];
      plan.not_finite |= std::isnan(sum.sum) || sum.maximum == kInfinity;
      plan.maximum = std::max(plan.maximum, sum.maximum);
    }
  }
  plan.all_minus_infinity = plan.maximum == -kInfinity;
  for (const std::vector<ChunkSum>* sums : parts) {
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const ChunkSum& sum = (*sums)[head_chunk_index(head, chunk)];
      plan.total += sum.sum * std::exp2(static_cast<double>(sum.maximum) - plan.maximum);
    }
  }
  plan.log_sum_exp = plan.maximum + std::log2(plan.total);
  return plan;
}

// The score that a key must exceed.
float DecodePass::score_limit(const HeadPlan& plan, double ln_threshold) const {
  const double reference = policy_.threshold == Threshold::raw ? 0 : plan.log_sum_exp;
  return round_down(ln_threshold * kLog2E + reference);
}

// Candidates are keys whose estimate comes within the margin of the threshold; where there are
// none, the key with the highest estimate is one.
void DecodePass::plan_estimates(int head) {
  HeadPlan plan = plan_sum(head, {&workspace_.chunk_sums});
  plan.threshold = score_limit(plan, workspace_.ln_thresholds[head] - policy_.margin);
  plan.empty = !(plan.maximum > plan.threshold) && !forces();
  if (plan.empty) plan.only_key = highest_key(head, plan.maximum);
  workspace_.estimate_plans[head] = plan;
}

// Where scores are estimated, those of candidates are exact by now, and the estimates of the rest
// stand for theirs.
void DecodePass::plan_head(int head) {
  HeadPlan plan = estimates_ ? plan_sum(head, {&workspace_.chunk_sums, &workspace_.rest_sums})
                             : plan_sum(head, {&workspace_.chunk_sums});
  if (estimates_) plan.not_finite |= workspace_.estimate_plans[head].not_finite;
  if (mode_ == RowMode::sift) plan_selection(head, plan);
  workspace_.plans[head] = plan;
}

// Calls visit(score) for all scores of keys that are not kept whatever their score, in order.
template <class Visit>
void DecodePass::for_eligible(int head, const Visit& visit) {
  const std::int64_t begin = policy_.sink;
  const std::int64_t end = visible_ - policy_.recent;
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    float* scores = head_scores(head, chunk);
    const std::int64_t first = chunk * kChunkKeys;
    const std::int64_t last = std::min(first + chunk_keys(chunk), end);
    for (std::int64_t key = std::max(first, begin); key < last; ++key) visit(scores[key - first]);
  }
}

// A threshold that exactly the keys of the highest ranks exceed. Of keys with equal scores at the
// limit the later ones are lowered to the threshold itself.
void DecodePass::plan_largest(int head, HeadPlan& plan) {
  const std::int64_t eligible = state_.eligible_keys(visible_);
  const std::int64_t ranked = state_.ranked_keys(visible_);
  plan.threshold = ranked == 0 ? kInfinity : -kInfinity;
  plan.empty = ranked == 0 && !forces();
  if (ranked == 0 || ranked == eligible || plan.not_finite) return;
  DecodeThread& thread = workspace_.threads[omp_get_thread_num()];
  float* copy = thread.order[0].data();
  for_eligible(head, [&](const float& score) { *copy++ = score; });
  const float limit = order_statistics(kernels_, thread.order[0].span(), eligible,
                                       eligible - ranked, thread.order[1].span())
                          .lower;
  plan.threshold = std::nextafter(limit, -kInfinity);
  std::int64_t left = ranked;
  for_eligible(head, [&](const float& score) { left -= score > limit ? 1 : 0; });
  for_eligible(head, [&](float& score) {
    if (score == limit && --left < 0) score = plan.threshold;
  });
}

// The scores of keys that the policy's own code does not keep are lowered to the threshold.
void DecodePass::plan_custom(int head, HeadPlan& plan) {
  plan.threshold = -kInfinity;
  if (plan.not_finite || plan.all_minus_infinity) return;
  DecodeThread& thread = workspace_.threads[omp_get_thread_num()];
  const std::span<float> scores = thread.order[0].span().first(visible_);
  const std::span<char> kept = std::span(thread.kept).first(visible_);
  for (std::int64_t key = 0; key < visible_; ++key) {
    scores[key] = head_scores(head, key / kChunkKeys)[key % kChunkKeys] * static_cast<float>(kLn2);
  }
  state_.select_keys(layer_, head, row_, scores, plan.log_sum_exp * kLn2, kept);
  plan.empty = true;
  for (std::int64_t key = 0; key < visible_; ++key) {
    if (kept[key]) {
      plan.empty = false;
    } else {
      head_scores(head, key / kChunkKeys)[key % kChunkKeys] = plan.threshold;
    }
  }
}

void DecodePass::plan_selection(int head, HeadPlan& plan) {
  if (policy_.select == Select::custom) {
    plan_custom(head, plan);
    return;
  }
  if (policy_.select == Select::largest) {
    plan_largest(head, plan);
    return;
  }
  plan.threshold = score_limit(plan, workspace_.ln_thresholds[head]);
  const float highest = highest_score(head);
  plan.empty = !(highest > plan.threshold) && !forces();
  if (plan.empty && policy_.empty == EmptyRow::highest) plan.only_key = highest_key(head, highest);
}

// Of all scores, or of the candidates'.
float DecodePass::highest_score(int head) const {
  float highest = -kInfinity;
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    highest = std::max(highest, workspace_.chunk_sums[head_chunk_index(head, chunk)].maximum);
  }
  return highest;
}

// The first key with the head's greatest score; 0 where scores are not finite.
std::int64_t DecodePass::highest_key(int head, float highest) {
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    if (workspace_.chunk_sums[head_chunk_index(head, chunk)].maximum != highest) continue;
    const float* scores = head_scores(head, chunk);
    const float* found = std::find(scores, scores + chunk_keys(chunk), highest);
    if (found != scores + chunk_keys(chunk)) return chunk * kChunkKeys + (found - scores);
  }
  return 0;
}

void DecodePass::finish_values(int kv_head) {
  GroupProgress& progress = workspace_.progress[kv_head];
  if (progress.values_left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  GroupFacts facts;
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    const ChunkRows& rows = workspace_.chunk_rows[chunk_index(kv_head, chunk)];
    facts.union_rows += rows.values;
    facts.union_eligible += rows.values_eligible;
    facts.candidate_rows += estimates_ ? rows.candidates : 0;
  }
  workspace_.group_facts[kv_head] = facts;
  for (int i = 0; i < layout_.group; ++i) merge_sifted(kv_head * layout_.group + i);
}

void DecodePass::merge_dense(int head) {
  const HeadPlan& plan = workspace_.plans[head];
  float* output = output_ + static_cast<std::size_t>(head) * layout_.head_dim;
  std::fill(output, output + layout_.head_dim, 0.0F);
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    const ChunkSum& sum = workspace_.chunk_sums[head_chunk_index(head, chunk)];
    add_partial(head, chunk,
                std::exp2(static_cast<double>(sum.maximum) - plan.maximum) / plan.total);
  }
}

void DecodePass::merge_sifted(int head) {
  const HeadPlan& plan = workspace_.plans[head];
  HeadFacts facts;
  facts.empty = plan.empty;
  double mass = 0;  // relative to the maximum, as plan.total
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    const ChunkKept& kept = workspace_.chunk_kept[head_chunk_index(head, chunk)];
    facts.kept += kept.counts.kept;
    facts.kept_eligible += kept.counts.kept_eligible;
    mass += kept.mass;
  }
  facts.kept_mass = std::min(mass / plan.total, 1.0);
  workspace_.facts[head] = facts;

  const bool renormalise = policy_.compensate == Compensate::renormalise && mass > 0;
  float* output = output_ + static_cast<std::size_t>(head) * layout_.head_dim;
  std::fill(output, output + layout_.head_dim, 0.0F);
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    add_partial(head, chunk, 1 / (renormalise ? mass : plan.total));
  }
  if (policy_.compensate == Compensate::mean) add_mean(head, 1 - facts.kept_mass);
}

void DecodePass::add_partial(int head, std::int64_t chunk, double scale) {
  const float* partial = workspace_.partials.data() +
                         head_chunk_index(head, chunk) * static_cast<std::size_t>(layout_.head_dim);
  kernels_.add_scaled(output_ + static_cast<std::size_t>(head) * layout_.head_dim, partial,
                      static_cast<float>(scale), layout_.head_dim);
}

// output += weight · mean of all visible V rows.
void DecodePass::add_mean(int head, double weight) {
  const double* sums = state_.value_sum(layer_, head / layout_.group);
  float* output = output_ + static_cast<std::size_t>(head) * layout_.head_dim;
  const double scale = weight / static_cast<double>(visible_);
  for (int d = 0; d < layout_.head_dim; ++d) output[d] += static_cast<float>(scale * sums[d]);
}

}  // namespace sift::cpu
