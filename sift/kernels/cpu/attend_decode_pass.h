#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "sift/attention/attention_state.h"
#include "sift/cache/kv_cache.h"
#include "sift/kernels/cpu/attend_decode_workspace.h"

namespace sift::cpu {

/// One decode row of one layer as one parallel region.
///
/// Work comes in items of one chunk of one KV head, which threads claim in order from one counter:
/// - dense and record: scores and values of a chunk in one item; record adds an item per query head
///   for its quantile;
/// - sift: the scores of a chunk, and later its values. The order is K₀ K₁ V₀ K₂ V₁ …, so that the
///   scores of a head are usually complete, and its threshold known, when its values are claimed;
///   nobody waits at a barrier.
/// The thread that finishes the last chunk of a head sums its partial results in chunk order.
///
/// An item waits only for items before it. Since items are claimed in order, the earliest
/// unfinished one is always at work, so waiting ends.
class DecodePass {
 public:
  /// The workspace holds the scaled query and, for a sifted row, ln_thresholds.
  DecodePass(AttentionState& state, int layer, const CacheView& cache, std::int64_t visible,
             RowMode mode, float* output, DecodeWorkspace& workspace);

  /// Fills output, and in the workspace plans, and facts and group_rows (sift) or ln_thetas
  /// (record). Where a plan says that scores are not finite, the rest means nothing.
  void run(int threads);

 private:
  enum class Kind : std::uint8_t { none, scores, values, dense, quantile };
  struct Item {
    Kind kind = Kind::none;
    int kv_head = 0;
    std::int64_t chunk = 0;  ///< for quantile: the query head
  };

  static constexpr std::int64_t kChunkPages = kChunkKeys / kPageRows;
  static_assert(kChunkKeys % kPageRows == 0);
  using ChunkPages = std::array<const std::byte*, kChunkPages>;

  Item item(std::int64_t number) const;
  void work(DecodeThread& thread);
  void score_item(const Item& at, const Item& next, DecodeThread& thread);
  void dense_item(const Item& at, const Item& next, DecodeThread& thread);
  void value_item(std::int64_t number, const Item& at, std::int64_t next_number, const Item& next,
                  DecodeThread& thread);
  void quantile_item(int head, DecodeThread& thread);

  void score_chunk(const Item& at, const std::byte* ahead, DecodeThread& thread, float* scores);
  void select_chunk(std::int64_t number, const Item& at, DecodeThread& thread,
                    Survivors& survivors);
  ChunkPages value_pages(const Item& at) const;
  void weigh_survivors(const Item& at, Survivors& survivors);
  void accumulate_chunk(const Item& at, const float* weights, const std::byte* const* rows,
                        int count);
  void finish_scores(int kv_head);
  void plan_head(int head);
  std::int64_t highest_key(int head, const HeadPlan& plan);
  void finish_values(int kv_head);
  void merge_dense(int head);
  void merge_sifted(int head);
  void add_partial(int head, std::int64_t chunk, double scale);
  void add_mean(int head, double weight);
  bool is_planned(int kv_head) const;
  void wait_for_plan(int kv_head) const;

  int chunk_keys(std::int64_t chunk) const;
  const std::byte* first_bytes(const Item& next) const;
  std::size_t chunk_index(int kv_head, std::int64_t chunk) const;
  std::size_t head_chunk_index(int head, std::int64_t chunk) const;
  float* chunk_scores(int kv_head, std::int64_t chunk);

  AttentionState& state_;
  const Policy& policy_;
  int layer_;
  const CacheView& cache_;
  std::int64_t visible_;
  RowMode mode_;
  float* output_;
  DecodeWorkspace& workspace_;
  const DecodeKernels& kernels_;
  DecodeKernels::Score score_;
  DecodeKernels::Accumulate accumulate_;
  GroupLayout layout_;
  std::int64_t chunks_;
  std::int64_t item_count_ = 0;
  std::atomic<std::int64_t> claimed_{0};
};

}  // namespace sift::cpu
