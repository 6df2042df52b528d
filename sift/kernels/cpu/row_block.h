#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "sift/cache/retained_rows.h"
#include "sift/kernels/cpu/attend_rows.h"
#include "sift/kernels/cpu/candidate_kernels.h"

namespace sift::cpu {

/// Consecutive rows [begin, end) of a segment that all sift or all run dense.
struct RowSpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool sifts = false;
};

/// What keys are scored: themselves, or their shadows.
enum class KeySource : std::uint8_t { exact, shadow };

/// Rows of a span are held until reported: at most so many.
inline constexpr std::int64_t kSpanRows = 512;

/// What all blocks of one call of attend_rows share. Results in the workspace are those of the
/// current span.
struct RowsCall {
  AttentionState& state;
  int layer;
  const CacheView& cache;
  const Segment& segment;
  const float* query;
  float* output;
  RowsWorkspace& workspace;
  std::int64_t panel_pages = 0;  ///< pages of keys that were expanded once for all blocks
  RowSpan span;
  std::span<RetainedRows> retained;  ///< [kv_heads] where the policy evicts

  int heads() const { return state.shape().heads; }
  int kv_heads() const { return state.shape().kv_heads; }
  int group() const { return state.shape().group_size(); }
  int dim() const { return state.shape().head_dim; }
  /// Columns of value tiles and of sums of them.
  std::int64_t padded_dim() const;
  /// Floats of an expanded page of keys.
  std::size_t tile_size() const { return static_cast<std::size_t>(dim()) * kPageRows; }
  std::int64_t visible(std::int64_t row) const { return segment.identity(row).visible; }
  /// Slots up to the row's own: where nothing is evicted, those of the keys that it sees.
  std::int64_t slots(std::int64_t row) const { return cache.rows + row + 1; }
  /// Whether what a row keeps depends on the rows before it.
  bool carries() const {
    return span.sifts && (state.policy().adapt != 0 || state.policy().select == Select::custom);
  }
  /// Whether rows of a KV head run one after the other.
  bool runs_in_order() const { return carries() || evicts(state.policy()); }
  /// Whether rows of the span estimate scores before they look at them.
  bool estimates() const { return span.sifts && keeps_key_shadow(state.policy()); }
  bool adds_mean() const { return span.sifts && state.policy().compensate == Compensate::mean; }

  RowsWorkspace::HeadResult& head_result(std::int64_t row, int head) const {
    return workspace.head_results[static_cast<std::size_t>((row - span.begin) * heads() + head)];
  }
  GroupFacts& group_facts(std::int64_t row, int kv_head) const {
    return workspace
        .group_facts[static_cast<std::size_t>((row - span.begin) * kv_heads() + kv_head)];
  }
  float* mean(std::int64_t row, int kv_head) const {
    return workspace.means.data() + (kv_head * kSpanRows + row - span.begin) * dim();
  }
};

/// The first row and head whose scores cannot be used.
struct RowFailure {
  std::int64_t row = std::numeric_limits<std::int64_t>::max();
  int head = 0;
  bool invalid = false;  ///< a NaN or +Inf score, or else no finite one

  bool any() const { return row != std::numeric_limits<std::int64_t>::max(); }
  bool before(const RowFailure& other) const {
    return row != other.row ? row < other.row : head < other.head;
  }
};

/// Rows per block when the last row sees `keys` keys: such that the scores of a group's heads stay
/// in the L2 cache and expanded tiles serve many rows.
std::int64_t block_height(const AttentionShape& shape, std::int64_t keys);

/// Floats of the buffers of a thread's scratch.
struct ScratchSizes {
  std::size_t queries = 0;
  std::size_t scores = 0;
  std::size_t tile = 0;
  std::size_t rows = 0;
  std::size_t sums = 0;
  std::size_t copy = 0;
  std::size_t estimates = 0;   ///< where scores are estimated
  std::size_t exact_sums = 0;  ///< likewise

  std::size_t total() const {
    return queries + scores + tile + rows + sums + copy + estimates + exact_sums;
  }
};
/// What blocks of up to `height` rows and `keys` keys need.
ScratchSizes scratch_sizes(const AttentionShape& shape, std::int64_t height, std::int64_t keys,
                           bool estimates);

/// Makes every thread's scratch large enough for blocks of up to `height` rows and `keys` keys.
void ensure_scratch(const RowsCall& call, std::int64_t height, std::int64_t keys);

/// Expands one page of keys, or of their shadows, to a tile [head_dim, kPageRows]; `keys` end the
/// sequence.
void expand_key_tile(const RowsCall& call, KeySource source, int kv_head, std::int64_t page,
                     std::int64_t keys, float* rows, float* tile);

/// Attention of rows [begin, end) of a segment for the query heads of one KV head.
class RowBlock {
 public:
  /// REQUIRES: ensure_scratch was called with at least this height and these keys.
  RowBlock(const RowsCall& call, int kv_head, std::int64_t begin, std::int64_t end,
           RowsWorkspace::Scratch& scratch);

  /// Writes the rows' outputs and results. Thresholds are taken from the results, or, where rows
  /// depend on each other, from the state, which then observes each row at once. Returns the first
  /// failure.
  RowFailure run();

 private:
  using HeadResult = RowsWorkspace::HeadResult;
  using OutputFactors = RowsWorkspace::OutputFactors;

  /// Σ 2^(score − maximum) of a row's scores, in double where they are many.
  struct ScoreSum {
    float maximum = 0;
    double sum = 0;
  };

  void pack_queries();
  const float* key_tile(KeySource source, std::int64_t page);
  void score(KeySource source, float* scores);
  void weigh_row(std::int64_t row);
  bool weigh_visible(std::int64_t row);
  bool scan_row(std::int64_t row);
  bool is_usable(std::int64_t row, int group_head, const ScoreScan& scan);
  std::span<float> natural_scores(std::int64_t row, int group_head);
  void show_scores(std::int64_t row);
  bool weigh_retained(std::int64_t row);
  void weigh_dense(std::int64_t row, int group_head);
  void weigh_sifted(std::int64_t row);
  HeadSelection exact_selection(std::int64_t row, int group_head);
  HeadSelection largest_selection(float* scores, const ScoreSum& known, std::int64_t visible);
  HeadSelection custom_selection(std::int64_t row, int group_head, const ScoreSum& known);
  HeadSelection selection_of(float* scores, float highest, const ScoreSum& known,
                             double ln_threshold, std::int64_t visible) const;
  UnionCount select_row(std::int64_t row, std::vector<HeadSelection>& selections) const;
  OutputFactors factors_of(const HeadSelection& selection) const;
  void take_selection(const HeadSelection& selection, HeadResult& result) const;
  void observe(std::int64_t row);
  void add_values(const float* weights, float* sums);
  void write_output() const;

  // Of rows whose scores are estimated (row_block_estimate.cc).
  void weigh_estimated(std::int64_t row);
  HeadSelection candidate_selection(std::int64_t row, int group_head);
  CandidateTask candidate_task(std::int64_t row, int group_head) const;
  std::int64_t count_candidates(std::int64_t row) const;
  void compare_outputs() const;

  static ScoreSum sum_scores(const float* scores, std::int64_t count);
  float limit_of(const ScoreSum& known, double ln_threshold) const;
  bool forces() const { return policy_.sink > 0 || policy_.recent > 0; }
  std::size_t row_offset(std::int64_t row, int group_head) const {
    return static_cast<std::size_t>(group_head * (end_ - begin_) + row - begin_) * stride_;
  }
  float* scores(std::int64_t row, int group_head) const {
    return scratch_.scores.data() + row_offset(row, group_head);
  }
  float* estimates(std::int64_t row, int group_head) const {
    return scratch_.estimates.data() + row_offset(row, group_head);
  }
  int head(int group_head) const { return kv_head_ * group_ + group_head; }

  const RowsCall& call_;
  const Policy& policy_;
  RowsWorkspace::Scratch& scratch_;
  int kv_head_;
  std::int64_t begin_;
  std::int64_t end_;
  int group_;
  int dim_;
  std::int64_t keys_;   // that the last row sees
  std::size_t stride_;  // of scores
  int rows_;            // rows × heads, rounded up to kRowsTogether
  RowFailure failure_;
};

}  // namespace sift::cpu
