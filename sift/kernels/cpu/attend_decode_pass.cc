#include "sift/kernels/cpu/attend_decode_pass.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <thread>

namespace sift::cpu {
namespace {

static_assert(kPageRows % kBlockKeys == 0);

// Pauses before a waiting thread gives its core away: waits are short unless cores are contended.
constexpr int kPatience = 2000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

DecodePass::DecodePass(AttentionState& state, int layer, const CacheView& cache,
                       std::int64_t visible, RowMode mode, float* output,
                       DecodeWorkspace& workspace)
    : state_(state),
      policy_(state.policy()),
      layer_(layer),
      cache_(cache),
      visible_(visible),
      mode_(mode),
      output_(output),
      workspace_(workspace),
      kernels_(workspace.kernels),
      score_(kernels_.score[cache_type_index(cache.layout.type)]),
      accumulate_(kernels_.accumulate[cache_type_index(cache.layout.type)]),
      layout_{state.shape().group_size(), cache.layout.head_dim, cache.layout.row_bytes()},
      keeps_scores_(mode == RowMode::record || policy_.retain == Retain::heavy_hitters),
      estimates_(mode == RowMode::sift && keeps_key_shadow(policy_)),
      shadow_layout_{layout_.group, layout_.head_dim, cache.layout.sidecars[Sidecar::key_shadow]},
      chunks_((visible + kChunkKeys - 1) / kChunkKeys) {
  if (estimates_) {
    score_shadow_ = kernels_.score_shadow[shadow_format_index({policy_.bits, policy_.block})];
  }
  line_up_segments();
  item_count_ =
      std::ssize(segments_) * chunks_ + (mode == RowMode::record ? state.shape().heads : 0);
  for (int kv_head = 0; kv_head < state.shape().kv_heads; ++kv_head) {
    GroupProgress& progress = workspace.progress[kv_head];
    progress.scores_left = chunks_;
    progress.candidates_left = chunks_;
    progress.values_left = chunks_;
    progress.estimated = false;
    progress.planned = false;
  }
}

// Each stage of a KV head follows the stage before it at a distance of one head.
void DecodePass::line_up_segments() {
  const std::vector<Kind> stages =
      mode_ != RowMode::sift ? std::vector{Kind::dense}
      : estimates_           ? std::vector{Kind::estimates, Kind::candidates, Kind::values}
                             : std::vector{Kind::scores, Kind::values};
  const auto count = static_cast<int>(stages.size());
  const int kv_heads = state_.shape().kv_heads;
  for (int turn = 0; turn < kv_heads + count - 1; ++turn) {
    for (int stage = 0; stage < count; ++stage) {
      const int kv_head = turn - stage;
      if (kv_head >= 0 && kv_head < kv_heads) segments_.push_back({stages[stage], kv_head});
    }
  }
}

void DecodePass::run(int threads) {
  const int team = static_cast<int>(std::min<std::int64_t>(threads, item_count_));
#pragma omp parallel num_threads(team)
  work(workspace_.threads[omp_get_thread_num()]);
}

DecodePass::Item DecodePass::item(std::int64_t number) const {
  if (number >= item_count_) return {};
  const std::int64_t segment = number / chunks_;
  if (segment < std::ssize(segments_)) {
    return {segments_[segment].kind, segments_[segment].kv_head, number % chunks_};
  }
  const std::int64_t head = number - std::ssize(segments_) * chunks_;
  return {Kind::quantile, static_cast<int>(head) / layout_.group, head};
}

void DecodePass::work(DecodeThread& thread) {
  // One item is claimed ahead, so that its first rows are on their way when it begins.
  std::int64_t number = claimed_.fetch_add(1, std::memory_order_relaxed);
  Item at = item(number);
  while (at.kind != Kind::none) {
    const std::int64_t next_number = claimed_.fetch_add(1, std::memory_order_relaxed);
    const Item next = item(next_number);
    switch (at.kind) {
      case Kind::estimates:
      case Kind::scores:
        score_item(at, next, thread);
        break;
      case Kind::candidates:
        candidate_item(at, thread);
        break;
      case Kind::values:
        value_item(number, at, next_number, next, thread);
        break;
      case Kind::dense:
        dense_item(at, next, thread);
        break;
      default:
        quantile_item(static_cast<int>(at.chunk), thread);
    }
    number = next_number;
    at = next;
  }
}

void DecodePass::score_item(const Item& at, const Item& next, DecodeThread& thread) {
  score_chunk(at, first_bytes(next), thread, chunk_scores(at.kv_head, at.chunk));
  if (at.kind == Kind::estimates) {
    finish_estimates(at.kv_head);
  } else {
    finish_scores(at.kv_head);
  }
}

// Scores of a chunk [group, kScoreStride], from shadows of keys or from the keys, and their maxima
// and sums.
void DecodePass::score_chunk(const Item& at, const std::byte* ahead, DecodeThread& thread,
                             float* scores) {
  score_blocks(at, ahead, thread, scores);
  const int count = padded_keys(chunk_keys(at.chunk));
  for (int i = 0; i < layout_.group; ++i) {
    const float* row = scores + i * kScoreStride;
    ChunkSum& sum =
        workspace_.chunk_sums[head_chunk_index(at.kv_head * layout_.group + i, at.chunk)];
    if (mode_ == RowMode::sift) {
      sum = sum_of(row, count);
    } else {
      sum.maximum = kernels_.maximum(row, count);
    }
  }
}

void DecodePass::score_blocks(const Item& at, const std::byte* ahead, DecodeThread& thread,
                              float* scores) {
  const bool estimates = at.kind == Kind::estimates;
  const GroupLayout& layout = estimates ? shadow_layout_ : layout_;
  const AlignedBuffer<float>& query = estimates ? workspace_.shadow_query : workspace_.query;
  const int keys = chunk_keys(at.chunk);
  const int blocks = padded_keys(keys) / kBlockKeys;
  constexpr int kPageBlocks = kPageRows / kBlockKeys;
  const std::size_t block_bytes = layout.row_bytes * kBlockKeys;
  for (int block = 0; block < blocks; ++block) {
    thread.blocks[block] = key_page(at, block / kPageBlocks) + block % kPageBlocks * block_bytes;
  }
  for (int i = 0; i < kBlocksAhead; ++i) {
    thread.blocks[blocks + i] = ahead != nullptr ? ahead + i * block_bytes : thread.blocks[0];
  }
  (estimates ? score_shadow_ : score_)(layout,
                                       query.data() + at.kv_head * layout_.group * layout_.head_dim,
                                       thread.blocks.data(), keys, scores);
}

// Of scores that are padded to whole blocks.
ChunkSum DecodePass::sum_of(const float* scores, int count) const {
  ChunkSum sum;
  sum.maximum = kernels_.maximum(scores, count);
  sum.sum = kernels_.sum_exp2(scores, count, sum.reference());
  return sum;
}

void DecodePass::dense_item(const Item& at, const Item& next, DecodeThread& thread) {
  const int keys = chunk_keys(at.chunk);
  Survivors& all = thread.survivors[0];
  const std::byte* values = cache_.value_page(at.kv_head, at.chunk * kChunkPages);
  score_chunk(at, values, thread, all.weights.data());
  if (keeps_scores_) {
    std::memcpy(chunk_scores(at.kv_head, at.chunk), all.weights.data(),
                sizeof(float) * layout_.group * kScoreStride);
  }
  for (int i = 0; i < layout_.group; ++i) {
    ChunkSum& sum =
        workspace_.chunk_sums[head_chunk_index(at.kv_head * layout_.group + i, at.chunk)];
    sum.sum = kernels_.replace_exp2(all.weights.data() + i * kScoreStride, padded_keys(keys),
                                    sum.reference());
  }
  const ChunkPages pages = value_pages(at);
  const std::size_t row_bytes = layout_.row_bytes;
  for (int key = 0; key < keys; ++key) {
    all.rows[key] = pages[key / kPageRows] + key % kPageRows * row_bytes;
  }
  const std::byte* ahead = first_bytes(next);
  for (int i = 0; i < kRowsAhead; ++i) {
    all.rows[keys + i] = ahead != nullptr ? ahead + i * row_bytes : values;
  }
  accumulate_chunk(at, all.weights.data(), all.rows.data(), keys);
  finish_scores(at.kv_head);
}

bool DecodePass::is_planned(int kv_head) const {
  return workspace_.progress[kv_head].planned.load(std::memory_order_acquire);
}

void DecodePass::wait_for(const std::atomic<bool>& flag) {
  for (int tries = 0; !flag.load(std::memory_order_acquire); ++tries) {
    if (tries < kPatience) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

int DecodePass::chunk_keys(std::int64_t chunk) const {
  return static_cast<int>(std::min<std::int64_t>(visible_ - chunk * kChunkKeys, kChunkKeys));
}

// Page number `page` of the chunk's keys, or of their shadows.
const std::byte* DecodePass::key_page(const Item& at, std::int64_t page) const {
  const std::int64_t block = at.chunk * kChunkPages + page;
  if (at.kind != Kind::estimates) return cache_.key_page(at.kv_head, block);
  return cache_.sidecar_page(Sidecar::key_shadow, at.kv_head, block);
}

// Where an item begins to read, if that is known already.
const std::byte* DecodePass::first_bytes(const Item& next) const {
  const bool in_order =
      next.kind == Kind::scores || next.kind == Kind::dense || next.kind == Kind::estimates;
  return in_order ? key_page(next, 0) : nullptr;
}

std::size_t DecodePass::chunk_index(int kv_head, std::int64_t chunk) const {
  return static_cast<std::size_t>(kv_head * chunks_ + chunk);
}

std::size_t DecodePass::head_chunk_index(int head, std::int64_t chunk) const {
  return chunk_index(head / layout_.group, chunk) * layout_.group + head % layout_.group;
}

float* DecodePass::chunk_scores(int kv_head, std::int64_t chunk) {
  return workspace_.scores.data() + chunk_index(kv_head, chunk) * layout_.group * kScoreStride;
}

float* DecodePass::head_scores(int head, std::int64_t chunk) {
  return chunk_scores(head / layout_.group, chunk) +
         static_cast<std::size_t>(head % layout_.group) * kScoreStride;
}

}  // namespace sift::cpu
