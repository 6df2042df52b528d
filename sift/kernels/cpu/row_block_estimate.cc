// Rows whose scores are estimated. Their exact scores are at hand here, so that exact sifting is
// done beside: its weights stay in `scores`, those over candidates in `estimates`.

#include <algorithm>
#include <cmath>

#include "sift/kernels/cpu/candidate_kernels.h"
#include "sift/kernels/cpu/row_block.h"
#include "sift/kernels/cpu/row_kernels.h"

namespace sift::cpu {

void RowBlock::weigh_estimated(std::int64_t row) {
  for (int g = 0; g < group_; ++g) {
    const auto index = static_cast<std::size_t>(g);
    scratch_.selections[index] = exact_selection(row, g);
    scratch_.estimated[index] = candidate_selection(row, g);
  }
  const std::int64_t candidates = count_candidates(row);
  const UnionCount count = select_row(row, scratch_.estimated);
  call_.group_facts(row, kv_head_) = {count.rows, count.eligible, candidates};
  select_row(row, scratch_.selections);
  for (int g = 0; g < group_; ++g) {
    HeadResult& result = call_.head_result(row, head(g));
    const HeadSelection& exact = scratch_.selections[static_cast<std::size_t>(g)];
    take_selection(scratch_.estimated[static_cast<std::size_t>(g)], result);
    result.exact_factors = factors_of(exact);
    result.error.exact_kept = exact.kept;
  }
  if (call_.carries()) observe(row);
}

// A row of nothing but −Inf sums up to 0.
RowBlock::ScoreSum RowBlock::sum_scores(const float* scores, std::int64_t count) {
  const float maximum = scan_scores(scores, count).maximum;
  return {maximum, std::isinf(maximum) ? 0 : sum_exp2(scores, count, maximum)};
}

// The row's estimates become the exact scores of its candidates, and −Inf for the rest, whose
// estimates stand for their scores in the sum.
HeadSelection RowBlock::candidate_selection(std::int64_t row, int group_head) {
  const std::int64_t visible = call_.visible(row);
  HeadResult& result = call_.head_result(row, head(group_head));
  result.error.missed = part_candidates(candidate_task(row, group_head));
  float* candidates = estimates(row, group_head);
  const ScoreSum rest = sum_scores(candidates, visible);
  std::copy_n(scratch_.copy.data(), visible, candidates);
  const ScoreSum exact = sum_scores(candidates, visible);
  const float maximum = std::max(exact.maximum, rest.maximum);
  const ScoreSum known{maximum, exact.sum * std::exp2(exact.maximum - maximum) +
                                    rest.sum * std::exp2(rest.maximum - maximum)};
  return selection_of(candidates, exact.maximum, known, result.ln_threshold, visible);
}

CandidateTask RowBlock::candidate_task(std::int64_t row, int group_head) const {
  const std::int64_t visible = call_.visible(row);
  const HeadSelection& exact = scratch_.selections[static_cast<std::size_t>(group_head)];
  CandidateTask task;
  task.estimates = estimates(row, group_head);
  task.exact = scores(row, group_head);
  task.candidates = scratch_.copy.data();
  task.visible = static_cast<std::int32_t>(visible);
  task.forced_before = static_cast<std::int32_t>(std::min(policy_.sink, visible));
  task.forced_from = static_cast<std::int32_t>(std::max<std::int64_t>(visible - policy_.recent, 0));
  const float highest = scratch_.estimate_scans[static_cast<std::size_t>(group_head)].maximum;
  const ScoreSum known{highest, sum_exp2(task.estimates, visible, highest)};
  task.limit =
      limit_of(known, call_.head_result(row, head(group_head)).ln_threshold - policy_.margin);
  if (!forces() && highest <= task.limit) {
    task.only = static_cast<std::int32_t>(
        std::find(task.estimates, task.estimates + visible, highest) - task.estimates);
  }
  task.exact_limit = exact.limit;
  task.exact_only = exact.only;
  return task;
}

std::int64_t RowBlock::count_candidates(std::int64_t row) const {
  std::vector<const float*> rows(static_cast<std::size_t>(group_));
  for (int g = 0; g < group_; ++g) rows[static_cast<std::size_t>(g)] = estimates(row, g);
  return count_any(rows.data(), group_, static_cast<std::int32_t>(call_.visible(row)));
}

// After write_output: how far outputs are from those of exact sifting.
void RowBlock::compare_outputs() const {
  const float* sums = scratch_.exact_sums.data();
  float* exact = scratch_.rows.data();
  for (int g = 0; g < group_; ++g) {
    for (std::int64_t row = begin_; row < end_; ++row, sums += call_.padded_dim()) {
      HeadResult& result = call_.head_result(row, head(g));
      combine(sums, result.exact_factors.sum,
              call_.adds_mean() ? call_.mean(row, kv_head_) : nullptr, result.exact_factors.mean,
              dim_, exact);
      const float* output = call_.output + (row * call_.heads() + head(g)) * dim_;
      double difference = 0;
      double whole = 0;
      for (int d = 0; d < dim_; ++d) {
        const double step = static_cast<double>(output[d]) - static_cast<double>(exact[d]);
        difference += step * step;
        whole += static_cast<double>(exact[d]) * static_cast<double>(exact[d]);
      }
      result.error.output_error = relative_error(difference, whole);
    }
  }
}

}  // namespace sift::cpu
