// What DecodePass does between estimates and values: it finds the candidates of a chunk and takes
// their exact scores.

#include <algorithm>
#include <limits>

#include "sift/kernels/cpu/attend_decode_pass.h"

namespace sift::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void DecodePass::candidate_item(const Item& at, DecodeThread& thread) {
  Survivors& candidates = thread.candidates;
  wait_for(workspace_.progress[at.kv_head].estimated);
  const Selected selected = select(at, workspace_.estimate_plans, thread, candidates);
  workspace_.chunk_rows[chunk_index(at.kv_head, at.chunk)].candidates = selected.rows;
  score_candidates(at, thread);
  for (int i = 0; i < layout_.group; ++i) {
    take_exact_scores(i, at, candidates, thread.exact.data() + i * kScoreStride);
  }
  finish_candidates(at.kv_head);
}

// Exact scores of the candidates of any head, for all heads: thread.exact.
void DecodePass::score_candidates(const Item& at, DecodeThread& thread) {
  Survivors& candidates = thread.candidates;
  const ChunkPages pages = exact_key_pages(at);
  locate(pages, candidates);
  for (int i = 0; i < kRowsAhead; ++i) candidates.rows[candidates.row_count + i] = pages[0];
  kernels_.score_rows[cache_type_index(cache_.layout.type)](
      layout_, workspace_.query.data() + at.kv_head * layout_.group * layout_.head_dim,
      candidates.rows.data(), candidates.row_count, thread.exact.data());
}

// In the scores of one head, number `group_head` of its group, candidates' exact scores take the
// place of all estimates, and the sum of the other keys' estimates is kept aside. `exact`: scores
// of the candidates of any head, those of other heads become −Inf.
void DecodePass::take_exact_scores(int group_head, const Item& at, const Survivors& candidates,
                                   float* exact) {
  const int head = at.kv_head * layout_.group + group_head;
  const std::size_t index = head_chunk_index(head, at.chunk);
  const float* estimates = candidates.weights.data() + group_head * kScoreStride;
  float* scores = head_scores(head, at.chunk);
  const int padded = padded_keys(chunk_keys(at.chunk));
  for (int i = 0; i < candidates.row_count; ++i) {
    if (estimates[i] == -kInfinity) {
      exact[i] = -kInfinity;
    } else {
      scores[candidates.indices[i]] = -kInfinity;
    }
  }
  workspace_.rest_sums[index] = sum_of(scores, padded);
  workspace_.chunk_sums[index] = sum_of(exact, padded_keys(candidates.row_count));
  std::fill_n(scores, padded, -kInfinity);
  for (int i = 0; i < candidates.row_count; ++i) scores[candidates.indices[i]] = exact[i];
}

DecodePass::ChunkPages DecodePass::exact_key_pages(const Item& at) const {
  ChunkPages pages = {};
  const std::int64_t count = (chunk_keys(at.chunk) + kPageRows - 1) / kPageRows;
  for (std::int64_t page = 0; page < count; ++page) {
    pages[page] = cache_.key_page(at.kv_head, at.chunk * kChunkPages + page);
  }
  return pages;
}

}  // namespace sift::cpu
