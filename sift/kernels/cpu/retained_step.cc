#include "sift/kernels/cpu/retained_step.h"

#include <algorithm>

namespace sift::cpu {

RetainedStep::RetainedStep(AttentionState& state, int layer, const CacheView& cache,
                           const RowIdentity& row)
    : state_(state), layer_(layer), row_(row) {
  for (int kv_head = 0; kv_head < state.shape().kv_heads; ++kv_head) {
    rows_.emplace_back(state.policy(), cache, kv_head, row.visible - 1);
  }
}

std::int64_t RetainedStep::begin() {
  for (RetainedRows& rows : rows_) {
    if (row_.generated > 0) rows.evict();
    rows.admit();
    rows.settle();
  }
  return rows_.front().rows();
}

void RetainedStep::finish(int threads, DecodeWorkspace& workspace) {
  const std::int64_t attended = rows_.front().rows();
  const bool gathers = state_.policy().retain == Retain::heavy_hitters;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int kv_head = 0; kv_head < state_.shape().kv_heads; ++kv_head) {
    RetainedRows& rows = rows_[static_cast<std::size_t>(kv_head)];
    if (gathers) gather_mass(rows, kv_head, workspace);
    if (row_.generated > 0) rows.evict();
    rows.settle();
  }
  observe(attended);
}

// Scores become weights, which the rows add up over the query heads.
void RetainedStep::gather_mass(RetainedRows& rows, int kv_head, DecodeWorkspace& workspace) const {
  const int group = state_.shape().group_size();
  const std::int64_t count = rows.rows();
  const std::int64_t chunks = (count + kChunkKeys - 1) / kChunkKeys;
  float* scores = workspace.scores.data() + kv_head * chunks * group * kScoreStride;
  for (std::int64_t begin = 0; begin < count; begin += kChunkKeys) {
    const int keys = static_cast<int>(std::min<std::int64_t>(kChunkKeys, count - begin));
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const HeadPlan& plan = workspace.plans[head];
      workspace.kernels.replace_exp2(scores, padded_keys(keys), plan.maximum);
      rows.add_mass(begin, scores, keys, 1 / plan.total);
      scores += kScoreStride;
    }
  }
}

void RetainedStep::observe(std::int64_t attended) {
  if (state_.mode(row_) != RowMode::sift) {
    if (row_.generated > 0) state_.observe_dense(layer_, row_);
    return;
  }
  for (int head = 0; head < state_.shape().heads; ++head) {
    state_.observe_head(layer_, head, row_, {.kept = attended});
  }
  for (int kv_head = 0; kv_head < state_.shape().kv_heads; ++kv_head) {
    state_.observe_group(layer_, kv_head, row_, GroupFacts{.union_rows = attended});
  }
}

}  // namespace sift::cpu
