#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sift/cache/kv_cache.h"
#include "sift/core/aligned_buffer.h"
#include "sift/kernels/cpu/attend_decode_kernels.h"

namespace sift::cpu {

/// The terms of the paper's cost analysis (section 4.4, equations 4–7), each on its own, with the
/// loops that decode attention is made of: for measurements. Scores are random, heads independent,
/// and warm, as the step before leaves them. Runs on as many threads as OpenMP is set to.
class DecodeTerms {
 public:
  /// `batch` sequences of `keys` keys. Thresholds and ranks are those of sparsity `tau`.
  DecodeTerms(const CacheLayout& layout, int heads, std::int64_t batch, std::int64_t keys,
              double tau);

  /// T_proj-V: Σ a_i V_i over all keys; T_proj-V′: over those that survive, read once for all heads
  /// that share a KV head. One view for each sequence.
  void project_all(std::span<const CacheView> views);
  void project_surviving(std::span<const CacheView> views);
  /// T_threshold: compares and lists the survivors.
  void threshold();
  /// T_top-k: finds the ⌈(1 − τ) S⌉-th largest score of every head and lists those not below it.
  void top_k();
  /// What a warm-up step does more: the τ-quantile of every head.
  void quantile();
  /// T_power-law-fit: `records` records of every head, and the law that follows.
  void fit(std::int64_t records);

  // What the terms came to, for tests.
  /// [batch, heads, head_dim] of the last projection.
  std::span<const float> sums() const { return {sums_.data(), sums_.size()}; }
  /// Score `key` of a head, base 2, and whether the last list holds it.
  float score(std::int64_t sequence, int head, std::int64_t key) const;
  bool survives(std::int64_t sequence, int head, std::int64_t key) const;
  double ln_theta(std::int64_t sequence, int head) const;

 private:
  /// Keys of one chunk that any head of a group keeps.
  struct Survivors {
    std::vector<std::uint16_t> indices;
    AlignedBuffer<float> scores;  ///< [group, kScoreStride], −Inf where a head does not keep one
    std::vector<KeptCounts> counts;
    std::vector<std::uint16_t> masks;
    int rows = 0;
  };

  template <class Work>
  void for_each_group(const Work& work);
  const float* chunk_scores(std::int64_t group, std::int64_t chunk) const {
    return scores_.data() + (group * chunks_ + chunk) * layout_.group * kScoreStride;
  }
  int chunk_keys(std::int64_t chunk) const;
  void select(std::int64_t group, std::span<const float> thresholds);
  void copy_head(std::int64_t group, int head, std::span<float> copy) const;
  void project(std::span<const CacheView> views, bool all);

  CacheLayout cache_layout_;
  GroupLayout layout_;
  std::int64_t groups_;  ///< batch · kv_heads
  std::int64_t keys_;
  std::int64_t chunks_;
  double tau_;
  AlignedBuffer<float> scores_;       ///< [groups, chunks, group, kScoreStride]
  std::vector<float> thresholds_;     ///< [groups, group], base 2
  std::vector<Survivors> survivors_;  ///< [groups, chunks]
  std::vector<double> ln_thetas_;     ///< [groups, group]
  AlignedBuffer<float> sums_;         ///< [groups, group, head_dim]
  AlignedBuffer<float> uniform_;      ///< [group, kScoreStride] weights
};

}  // namespace sift::cpu
