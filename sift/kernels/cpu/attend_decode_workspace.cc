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

std::size_t chunk_count(std::int64_t visible) {
  return static_cast<std::size_t>((visible + kChunkKeys - 1) / kChunkKeys);
}

/// Floats of all scores of a row. Dense rows need those of a chunk only while they work on it.
std::size_t score_floats(const AttentionShape& shape, std::int64_t visible, RowMode mode) {
  if (mode == RowMode::dense) return 0;
  return chunk_count(visible) * static_cast<std::size_t>(shape.heads) * kScoreStride;
}

std::size_t partial_floats(const AttentionShape& shape, std::int64_t visible) {
  return chunk_count(visible) * static_cast<std::size_t>(shape.heads * shape.head_dim);
}

/// Floats of one of a thread's two buffers for order statistics, of all scores of a head.
std::size_t order_floats(std::int64_t visible, RowMode mode) {
  return mode == RowMode::dense ? 0 : static_cast<std::size_t>(visible) + kBlockKeys;
}

void ensure_thread(DecodeThread& thread, std::size_t group, std::int64_t visible, RowMode mode) {
  grow(thread.blocks, kChunkKeys / kBlockKeys + kBlocksAhead);
  for (Survivors& survivors : thread.survivors) ensure_survivors(survivors, group);
  ensure_survivors(thread.candidates, group);
  thread.exact.ensure(group * kScoreStride);
  grow(thread.thresholds, group);
  grow(thread.only_keys, group);
  for (auto& order : thread.order) order.ensure(order_floats(visible, mode));
  if (mode == RowMode::sift) grow(thread.kept, static_cast<std::size_t>(visible));
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
  const std::size_t chunks = chunk_count(visible);
  query.ensure(heads * dim);
  shadow_query.ensure(heads * dim);
  scores.ensure(score_floats(shape, visible, mode));
  partials.ensure(partial_floats(shape, visible));
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

std::size_t DecodeWorkspace::bytes() const {
  std::size_t floats = scores.size() + partials.size();
  for (const DecodeThread& thread : threads) {
    for (const auto& order : thread.order) floats += order.size();
  }
  return floats * sizeof(float);
}

std::size_t decode_workspace_bytes(const AttentionShape& shape, std::int64_t visible, RowMode mode,
                                   int threads) {
  return (score_floats(shape, visible, mode) + partial_floats(shape, visible) +
          2 * static_cast<std::size_t>(threads) * order_floats(visible, mode)) *
         sizeof(float);
}

}  // namespace sift::cpu
