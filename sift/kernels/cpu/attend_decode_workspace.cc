#include "sift/kernels/cpu/attend_decode_workspace.h"

#include <limits>

namespace sift::cpu {
namespace {

template <class T>
void grow(std::vector<T>& vector, std::size_t size) {
  if (vector.size() < size) vector.resize(size);
}

void ensure_survivors(Survivors& survivors, std::size_t group) {
  survivors.item = -1;
  survivors.indices.ensure(kScoreStride);
  survivors.weights.ensure(group * kScoreStride);
  grow(survivors.counts, group);
  grow(survivors.masks, group);
  grow(survivors.rows, kScoreStride + kRowsAhead);
}

void ensure_thread(DecodeThread& thread, std::size_t group, std::int64_t visible, RowMode mode) {
  grow(thread.blocks, kChunkKeys / kBlockKeys + kBlocksAhead);
  for (Survivors& survivors : thread.survivors) ensure_survivors(survivors, group);
  ensure_survivors(thread.candidates, group);
  thread.exact.ensure(group * kScoreStride);
  grow(thread.thresholds, group);
  grow(thread.only_keys, group);
  if (mode != RowMode::record) return;
  for (auto& order : thread.order) order.ensure(static_cast<std::size_t>(visible) + kBlockKeys);
}

}  // namespace

float ChunkSum::reference() const {
  return maximum == -std::numeric_limits<float>::infinity() ? 0.0F : maximum;
}

void DecodeWorkspace::ensure(const AttentionShape& shape, std::int64_t visible, RowMode mode,
                             int thread_count) {
  const auto heads = static_cast<std::size_t>(shape.heads);
  const auto kv_heads = static_cast<std::size_t>(shape.kv_heads);
  const auto group = static_cast<std::size_t>(shape.group_size());
  const auto dim = static_cast<std::size_t>(shape.head_dim);
  const auto chunks = static_cast<std::size_t>((visible + kChunkKeys - 1) / kChunkKeys);
  query.ensure(heads * dim);
  shadow_query.ensure(heads * dim);
  if (mode != RowMode::dense) scores.ensure(chunks * heads * kScoreStride);
  partials.ensure(chunks * heads * dim);
  grow(chunk_sums, chunks * heads);
  grow(rest_sums, chunks * heads);
  grow(chunk_kept, chunks * heads);
  grow(chunk_rows, chunks * kv_heads);
  grow(estimate_plans, heads);
  grow(plans, heads);
  grow(ln_thresholds, heads);
  grow(ln_thetas, heads);
  grow(facts, heads);
  grow(group_facts, kv_heads);
  if (progress.size() < kv_heads) progress = std::vector<GroupProgress>(kv_heads);
  grow(threads, static_cast<std::size_t>(thread_count));
  for (DecodeThread& thread : threads) ensure_thread(thread, group, visible, mode);
}

}  // namespace sift::cpu
