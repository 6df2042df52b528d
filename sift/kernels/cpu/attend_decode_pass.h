#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "sift/attention/attention_state.h"
#include "sift/cache/kv_cache.h"
#include "sift/kernels/cpu/attend_decode_workspace.h"

namespace sift::cpu {

/// One decode row of one layer as one parallel region.
///
/// Work comes in items of one chunk of one KV head, which threads claim in order from one counter:
/// - dense and record: scores and values of a chunk in one item; record adds an item per query head
///   for its quantile; record, and dense where rows gather mass, leave the scores in the workspace;
/// - sift: the scores of a chunk, and later its values. The order is K₀ K₁ V₀ K₂ V₁ …, so that the
///   scores of a head are usually complete, and its threshold known, when its values are claimed;
///   nobody waits at a barrier;
/// - sift with estimates: the scores of a chunk's shadows, then those of its candidates, then its
///   values: Ŝ₀ Ŝ₁ K₀ Ŝ₂ K₁ V₀ …
/// The thread that finishes the last chunk of a head sums its partial results in chunk order.
///
/// An item waits only for items before it. Since items are claimed in order, the earliest
/// unfinished one is always at work, so waiting ends.
class DecodePass {
 public:
  /// The workspace holds the scaled query and, for a sifted row, ln_thresholds.
  DecodePass(AttentionState& state, int layer, const CacheView& cache, std::int64_t visible,
             RowMode mode, float* output, DecodeWorkspace& workspace);

  /// Fills output, and in the workspace plans, and facts and group_facts (sift) or ln_thetas
  /// (record). Where a plan says that scores are not finite, the rest means nothing.
  void run(int threads);

 private:
  enum class Kind : std::uint8_t { none, estimates, candidates, scores, values, dense, quantile };
  struct Item {
    Kind kind = Kind::none;
    int kv_head = 0;
    std::int64_t chunk = 0;  ///< for quantile: the query head
  };
  /// Items of all chunks of a KV head.
  struct Segment {
    Kind kind = Kind::none;
    int kv_head = 0;
  };

  static constexpr std::int64_t kChunkPages = kChunkKeys / kPageRows;
  static_assert(kChunkKeys % kPageRows == 0);
  using ChunkPages = std::array<const std::byte*, kChunkPages>;

  void line_up_segments();
  Item item(std::int64_t number) const;
  void work(DecodeThread& thread);
  void score_item(const Item& at, const Item& next, DecodeThread& thread);
  void candidate_item(const Item& at, DecodeThread& thread);
  void dense_item(const Item& at, const Item& next, DecodeThread& thread);
  void value_item(std::int64_t number, const Item& at, std::int64_t next_number, const Item& next,
                  DecodeThread& thread);
  void quantile_item(int head, DecodeThread& thread);

  void score_chunk(const Item& at, const std::byte* ahead, DecodeThread& thread, float* scores);
  void score_blocks(const Item& at, const std::byte* ahead, DecodeThread& thread, float* scores);
  ChunkSum sum_of(const float* scores, int count) const;
  Selected select(const Item& at, const std::vector<HeadPlan>& plans, DecodeThread& thread,
                  Survivors& survivors);
  void select_chunk(std::int64_t number, const Item& at, DecodeThread& thread,
                    Survivors& survivors);
  void score_candidates(const Item& at, DecodeThread& thread);
  void take_exact_scores(int head, const Item& at, const Survivors& candidates, float* exact);
  ChunkPages value_pages(const Item& at) const;
  ChunkPages exact_key_pages(const Item& at) const;
  void locate(const ChunkPages& pages, Survivors& survivors) const;
  void weigh_survivors(const Item& at, Survivors& survivors);
  void accumulate_chunk(const Item& at, const float* weights, const std::byte* const* rows,
                        int count);
  void finish_estimates(int kv_head);
  void finish_candidates(int kv_head);
  void finish_scores(int kv_head);
  void plan_group(int kv_head);
  HeadPlan plan_sum(int head, std::initializer_list<const std::vector<ChunkSum>*> parts) const;
  void plan_estimates(int head);
  void plan_head(int head);
  void plan_selection(int head, HeadPlan& plan);
  void plan_largest(int head, HeadPlan& plan);
  template <class Visit>
  void for_eligible(int head, const Visit& visit);
  std::int64_t highest_key(int head, float highest);
  float highest_score(int head) const;
  bool forces() const { return policy_.sink > 0 || policy_.recent > 0; }
  void finish_values(int kv_head);
  void merge_dense(int head);
  void merge_sifted(int head);
  void add_partial(int head, std::int64_t chunk, double scale);
  void add_mean(int head, double weight);
  bool is_planned(int kv_head) const;
  static void wait_for(const std::atomic<bool>& flag);

  int chunk_keys(std::int64_t chunk) const;
  const std::byte* key_page(const Item& at, std::int64_t page) const;
  const std::byte* first_bytes(const Item& next) const;
  std::size_t chunk_index(int kv_head, std::int64_t chunk) const;
  std::size_t head_chunk_index(int head, std::int64_t chunk) const;
  float* chunk_scores(int kv_head, std::int64_t chunk);
  float* head_scores(int head, std::int64_t chunk);

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
  bool keeps_scores_;  // of rows that run dense or record
  bool estimates_;     // scores are estimated first
  DecodeKernels::Score score_shadow_ = nullptr;
  GroupLayout shadow_layout_;
  std::int64_t chunks_;
  std::vector<Segment> segments_;  // in the order in which they are claimed
  std::int64_t item_count_ = 0;    // of the segments, then a quantile for each head
  std::atomic<std::int64_t> claimed_{0};
};

}  // namespace sift::cpu
