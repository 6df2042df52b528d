#include "sift/kernels/cpu/attend_rows.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>

#include "sift/core/error.h"
#include "sift/kernels/cpu/row_kernels.h"
#include "sift/sifting/quantile.h"

namespace sift::cpu {
namespace {

constexpr std::int64_t kSpanRows = 512;        // rows whose results are held until reported
constexpr std::int64_t kBlockRows = 96;        // rows × heads of a group that share expanded tiles
constexpr std::size_t kScoreBytes = 1U << 20;  // of one block, so that they stay in the L2 cache
constexpr std::size_t kKeyPanelBytes = 32U << 20;
constexpr std::size_t kStridePad = 16;  // floats, so that rows do not fall on the same cache sets

constexpr double kLn2 = std::numbers::ln2;
constexpr double kLog2E = std::numbers::log2e;

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Floats from one row of scores over `keys` keys to the next.
std::size_t score_stride(std::int64_t keys) {
  return static_cast<std::size_t>(round_up(keys, kPageRows)) + kStridePad;
}

/// The first row and head whose scores cannot be used.
struct Failure {
  std::int64_t row = std::numeric_limits<std::int64_t>::max();
  int head = 0;
  bool invalid = false;  ///< a NaN or +Inf score, or else no finite one

  bool before(const Failure& other) const {
    return row != other.row ? row < other.row : head < other.head;
  }
};

/// Consecutive rows of a segment that all sift or all run dense.
struct Span {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool sifts = false;
};

/// Rows [begin, end) of the segment, for one KV head.
struct RowBlock {
  int kv_head = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t keys = 0;   ///< that its last row sees
  std::size_t stride = 0;  ///< of its scores
  int rows = 0;            ///< rows × heads, rounded up to kRowsTogether

  std::int64_t count() const { return end - begin; }
};

class RowsAttention {
 public:
  RowsAttention(AttentionState& state, int layer, const CacheView& cache, const Segment& segment,
                const float* query, float* output, RowsWorkspace& workspace);

  void run();

 private:
  using Scratch = RowsWorkspace::Scratch;
  using HeadResult = RowsWorkspace::HeadResult;

  void expand_keys();
  Span next_span(std::int64_t begin) const;
  void run_span(const Span& span);
  void prepare_thresholds(const Span& span);
  void compute_means(const Span& span, int kv_head);
  std::int64_t block_height(std::int64_t keys) const;
  void run_blocks(const Span& span);
  void run_in_order(const Span& span);
  void report(const Span& span);
  void report_row(std::int64_t row);

  RowBlock make_block(const Span& span, std::int64_t begin, std::int64_t height, int kv_head) const;
  void attend_block(const Span& span, const RowBlock& block, Scratch& scratch);
  void ensure_scratch(std::int64_t height, std::int64_t keys) const;
  void pack_queries(const RowBlock& block, Scratch& scratch) const;
  const float* key_tile(int kv_head, std::int64_t page, std::int64_t keys, Scratch& scratch) const;
  void score(const RowBlock& block, Scratch& scratch) const;
  void weigh_row(const Span& span, const RowBlock& block, std::int64_t row, Scratch& scratch);
  bool scan_row(const RowBlock& block, std::int64_t row, Scratch& scratch);
  void weigh_dense(const RowIdentity& row, const ScoreScan& scan, float* scores, HeadResult& result,
                   Scratch& scratch) const;
  HeadSelection selection_of(const RowBlock& block, std::int64_t row, int group_head,
                             Scratch& scratch);
  void weigh_sifted(const RowBlock& block, std::int64_t row, Scratch& scratch);
  void take_selection(const HeadSelection& selection, HeadResult& result) const;
  void observe(const RowBlock& block, std::int64_t row);
  void add_values(const RowBlock& block, Scratch& scratch) const;
  void write_output(const Span& span, const RowBlock& block, const Scratch& scratch) const;
  void fail(const Failure& failure);
  void throw_if_failed() const;

  float* scores_of(const RowBlock& block, std::int64_t row, int group_head,
                   Scratch& scratch) const {
    return scratch.scores.data() +
           static_cast<std::size_t>(group_head * block.count() + row - block.begin) * block.stride;
  }
  HeadResult& result(std::int64_t row, int head) const {
    return workspace_
        .head_results[static_cast<std::size_t>((row - span_begin_) * shape_.heads + head)];
  }
  RowsWorkspace::GroupResult& group_result(std::int64_t row, int kv_head) const {
    return workspace_
        .group_results[static_cast<std::size_t>((row - span_begin_) * shape_.kv_heads + kv_head)];
  }
  float* mean(std::int64_t row, int kv_head) const {
    return workspace_.means.data() + (kv_head * kSpanRows + row - span_begin_) * dim_;
  }
  std::int64_t visible(std::int64_t row) const { return segment_.identity(row).visible; }

  AttentionState& state_;
  const Policy& policy_;
  AttentionShape shape_;
  int layer_;
  const CacheView& cache_;
  const Segment& segment_;
  const float* query_;
  float* output_;
  RowsWorkspace& workspace_;
  int dim_;
  int group_;
  std::int64_t padded_dim_;   // columns of V tiles and sums
  std::int64_t total_keys_;   // that the segment's last row sees
  std::int64_t panel_pages_;  // pages of keys expanded once for all blocks
  std::size_t tile_size_;     // floats of an expanded page of keys
  std::int64_t span_begin_ = 0;
  std::vector<double> value_sums_;          // [kv_heads, head_dim] over summed_slots_
  std::vector<std::int64_t> summed_slots_;  // [kv_heads]
  Failure failure_;
};

RowsAttention::RowsAttention(AttentionState& state, int layer, const CacheView& cache,
                             const Segment& segment, const float* query, float* output,
                             RowsWorkspace& workspace)
    : state_(state),
      policy_(state.policy()),
      shape_(state.shape()),
      layer_(layer),
      cache_(cache),
      segment_(segment),
      query_(query),
      output_(output),
      workspace_(workspace),
      dim_(shape_.head_dim),
      group_(shape_.group_size()),
      padded_dim_(round_up(dim_, kColumnMultiple)),
      total_keys_(visible(segment.row_count - 1)),
      tile_size_(static_cast<std::size_t>(dim_) * kPageRows) {
  const std::size_t page_bytes = tile_size_ * shape_.kv_heads * sizeof(float);
  panel_pages_ = std::min(round_up(total_keys_, kPageRows) / kPageRows,
                          static_cast<std::int64_t>(kKeyPanelBytes / page_bytes));
  const std::int64_t span_rows = std::min(segment.row_count, kSpanRows);
  workspace.head_results.resize(static_cast<std::size_t>(span_rows) * shape_.heads);
  workspace.group_results.resize(static_cast<std::size_t>(span_rows) * shape_.kv_heads);
}

void RowsAttention::run() {
  expand_keys();
  if (policy_.select == Select::above && policy_.compensate == Compensate::mean) {
    value_sums_.assign(static_cast<std::size_t>(shape_.kv_heads) * dim_, 0.0);
    summed_slots_.assign(static_cast<std::size_t>(shape_.kv_heads), 0);
    workspace_.means.ensure(static_cast<std::size_t>(shape_.kv_heads * kSpanRows * dim_));
  }
  for (std::int64_t begin = 0; begin < segment_.row_count;) {
    const Span span = next_span(begin);
    run_span(span);
    begin = span.end;
  }
}

// Transposed once, the keys serve all row blocks and query heads.
void RowsAttention::expand_keys() {
  const std::int64_t tiles = panel_pages_ * shape_.kv_heads;
  workspace_.keys.ensure(static_cast<std::size_t>(tiles) * tile_size_);
  for (Scratch& scratch : workspace_.scratch) {
    scratch.rows.ensure(tile_size_);
    scratch.tile.ensure(static_cast<std::size_t>(padded_dim_ * kPageRows));
  }
#pragma omp parallel for schedule(static) num_threads(workspace_.threads())
  for (std::int64_t index = 0; index < tiles; ++index) {
    Scratch& scratch = workspace_.scratch[static_cast<std::size_t>(omp_get_thread_num())];
    const std::int64_t page = index % panel_pages_;
    const auto kv_head = static_cast<int>(index / panel_pages_);
    const int count = static_cast<int>(std::min(kPageRows, total_keys_ - page * kPageRows));
    float* tile = workspace_.keys.data() + static_cast<std::size_t>(index) * tile_size_;
    if (count < kPageRows) std::fill_n(tile, tile_size_, 0.0F);
    expand_rows(cache_.layout.type, cache_.key_page(kv_head, page), count, dim_,
                scratch.rows.data(), static_cast<std::size_t>(dim_));
    transpose(scratch.rows.data(), count, dim_, tile, kPageRows);
  }
}

Span RowsAttention::next_span(std::int64_t begin) const {
  const auto sifts = [&](std::int64_t row) {
    return state_.mode(segment_.identity(row)) == RowMode::sift;
  };
  Span span{begin, begin + 1, sifts(begin)};
  const std::int64_t limit = std::min(segment_.row_count, begin + kSpanRows);
  while (span.end < limit && sifts(span.end) == span.sifts) ++span.end;
  return span;
}

void RowsAttention::run_span(const Span& span) {
  span_begin_ = span.begin;
  if (span.sifts && policy_.compensate == Compensate::mean) {
#pragma omp parallel for schedule(static) num_threads(workspace_.threads())
    for (int kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) compute_means(span, kv_head);
  }
  if (span.sifts && policy_.adapt != 0) {
    run_in_order(span);
    throw_if_failed();
    return;
  }
  if (span.sifts) prepare_thresholds(span);
  run_blocks(span);
  throw_if_failed();
  report(span);
}

void RowsAttention::prepare_thresholds(const Span& span) {
  for (std::int64_t row = span.begin; row < span.end; ++row) {
    for (int head = 0; head < shape_.heads; ++head) {
      result(row, head).ln_threshold = state_.ln_threshold(layer_, head, segment_.identity(row));
    }
  }
}

// The running sum of the state already holds the whole segment, so the sums at each row are made
// again, in the order and precision of appending.
void RowsAttention::compute_means(const Span& span, int kv_head) {
  float* value = workspace_.scratch[static_cast<std::size_t>(omp_get_thread_num())].rows.data();
  double* sums = value_sums_.data() + kv_head * dim_;
  std::int64_t& slot = summed_slots_[static_cast<std::size_t>(kv_head)];
  for (std::int64_t row = span.begin; row < span.end; ++row) {
    for (; slot < visible(row); ++slot) {
      expand_rows(cache_.layout.type, cache_.value_row(kv_head, slot), 1, dim_, value, 0);
      add_to_sums(value, dim_, sums);
    }
    for (int d = 0; d < dim_; ++d) {
      mean(row, kv_head)[d] = static_cast<float>(sums[d] / static_cast<double>(slot));
    }
  }
}

/// Rows per block, so that the scores of a group's heads fit.
std::int64_t RowsAttention::block_height(std::int64_t keys) const {
  const std::size_t row_bytes =
      static_cast<std::size_t>(group_) * static_cast<std::size_t>(keys) * sizeof(float);
  const auto fitting = static_cast<std::int64_t>(kScoreBytes / row_bytes);
  return std::clamp<std::int64_t>(fitting, 1, std::max<std::int64_t>(kBlockRows / group_, 1));
}

RowBlock RowsAttention::make_block(const Span& span, std::int64_t begin, std::int64_t height,
                                   int kv_head) const {
  RowBlock block;
  block.kv_head = kv_head;
  block.begin = begin;
  block.end = std::min(begin + height, span.end);
  block.keys = visible(block.end - 1);
  block.stride = score_stride(block.keys);
  block.rows = static_cast<int>(round_up(block.count() * group_, kRowsTogether));
  return block;
}

void RowsAttention::run_blocks(const Span& span) {
  const std::int64_t height = block_height(visible(span.end - 1));
  const std::int64_t blocks = (span.end - span.begin + height - 1) / height;
  const std::int64_t tasks = blocks * shape_.kv_heads;
  ensure_scratch(std::min(height, span.end - span.begin), visible(span.end - 1));
  // The last blocks see the most keys: they start first.
#pragma omp parallel for schedule(dynamic, 1) num_threads(workspace_.threads())
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t index = blocks - 1 - task / shape_.kv_heads;
    const auto kv_head = static_cast<int>(task % shape_.kv_heads);
    attend_block(span, make_block(span, span.begin + index * height, height, kv_head),
                 workspace_.scratch[static_cast<std::size_t>(omp_get_thread_num())]);
  }
}

// A row's thresholds depend on what the row before it kept.
void RowsAttention::run_in_order(const Span& span) {
  const std::int64_t height = block_height(visible(span.end - 1));
  ensure_scratch(std::min(height, span.end - span.begin), visible(span.end - 1));
#pragma omp parallel for schedule(dynamic, 1) num_threads(workspace_.threads())
  for (int kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
    Scratch& scratch = workspace_.scratch[static_cast<std::size_t>(omp_get_thread_num())];
    for (std::int64_t begin = span.begin; begin < span.end; begin += height) {
      attend_block(span, make_block(span, begin, height, kv_head), scratch);
    }
  }
}

void RowsAttention::report(const Span& span) {
  for (std::int64_t row = span.begin; row < span.end; ++row) report_row(row);
}

void RowsAttention::report_row(std::int64_t row) {
  const RowIdentity identity = segment_.identity(row);
  const RowMode mode = state_.mode(identity);
  for (int head = 0; head < shape_.heads; ++head) {
    const HeadResult& head_result = result(row, head);
    if (mode == RowMode::record) state_.record(layer_, head, identity, head_result.ln_theta);
    if (mode == RowMode::sift) state_.observe_head(layer_, head, identity, head_result.facts);
  }
  if (mode != RowMode::sift) {
    if (identity.generated > 0) state_.observe_dense(layer_, identity);
    return;
  }
  for (int kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
    const auto& group = group_result(row, kv_head);
    state_.observe_group(layer_, kv_head, identity, group.union_rows, group.union_eligible);
  }
}

// For blocks of up to `height` rows that see up to `keys` keys.
void RowsAttention::ensure_scratch(std::int64_t height, std::int64_t keys) const {
  const auto rows = static_cast<std::size_t>(round_up(height * group_, kRowsTogether));
  for (Scratch& scratch : workspace_.scratch) {
    scratch.queries.ensure(rows * static_cast<std::size_t>(dim_));
    scratch.scores.ensure(rows * score_stride(keys));
    scratch.sums.ensure(rows * static_cast<std::size_t>(padded_dim_));
    scratch.copy.ensure(static_cast<std::size_t>(keys));
    scratch.scans.resize(static_cast<std::size_t>(group_));
    scratch.selections.resize(static_cast<std::size_t>(group_));
  }
}

void RowsAttention::attend_block(const Span& span, const RowBlock& block, Scratch& scratch) {
  pack_queries(block, scratch);
  score(block, scratch);
  for (std::int64_t row = block.begin; row < block.end; ++row) {
    weigh_row(span, block, row, scratch);
  }
  add_values(block, scratch);
  write_output(span, block, scratch);
}

void RowsAttention::pack_queries(const RowBlock& block, Scratch& scratch) const {
  const auto scale = static_cast<float>(kLog2E / std::sqrt(static_cast<double>(dim_)));
  float* packed = scratch.queries.data();
  for (int group_head = 0; group_head < group_; ++group_head) {
    for (std::int64_t row = block.begin; row < block.end; ++row, packed += dim_) {
      const std::int64_t head = block.kv_head * group_ + group_head;
      const float* source = query_ + (row * shape_.heads + head) * dim_;
      for (int d = 0; d < dim_; ++d) packed[d] = source[d] * scale;
    }
  }
  const std::int64_t padding = block.rows - block.count() * group_;
  std::fill_n(packed, padding * dim_, 0.0F);
}

const float* RowsAttention::key_tile(int kv_head, std::int64_t page, std::int64_t keys,
                                     Scratch& scratch) const {
  if (page < panel_pages_) {
    return workspace_.keys.data() +
           static_cast<std::size_t>(kv_head * panel_pages_ + page) * tile_size_;
  }
  const int count = static_cast<int>(std::min(kPageRows, keys - page * kPageRows));
  if (count < kPageRows) std::fill_n(scratch.tile.data(), tile_size_, 0.0F);
  expand_rows(cache_.layout.type, cache_.key_page(kv_head, page), count, dim_, scratch.rows.data(),
              static_cast<std::size_t>(dim_));
  transpose(scratch.rows.data(), count, dim_, scratch.tile.data(), kPageRows);
  return scratch.tile.data();
}

void RowsAttention::score(const RowBlock& block, Scratch& scratch) const {
  for (std::int64_t key = 0; key < block.keys; key += kPageRows) {
    const float* tile = key_tile(block.kv_head, key / kPageRows, block.keys, scratch);
    multiply(block.rows, dim_, static_cast<int>(kPageRows),
             {scratch.queries.data(), static_cast<std::size_t>(dim_)},
             {tile, static_cast<std::size_t>(kPageRows)},
             {scratch.scores.data() + key, block.stride}, false);
  }
}

void RowsAttention::weigh_row(const Span& span, const RowBlock& block, std::int64_t row,
                              Scratch& scratch) {
  const RowIdentity identity = segment_.identity(row);
  const bool usable = scan_row(block, row, scratch);
  if (usable && span.sifts) {
    weigh_sifted(block, row, scratch);
  } else if (usable) {
    for (int g = 0; g < group_; ++g) {
      weigh_dense(identity, scratch.scans[static_cast<std::size_t>(g)],
                  scores_of(block, row, g, scratch), result(row, block.kv_head * group_ + g),
                  scratch);
    }
  }
  for (int g = 0; g < group_; ++g) {
    float* scores = scores_of(block, row, g, scratch);
    const std::int64_t weighed = usable ? identity.visible : 0;
    std::fill(scores + weighed, scores + block.keys, 0.0F);
  }
}

bool RowsAttention::scan_row(const RowBlock& block, std::int64_t row, Scratch& scratch) {
  for (int g = 0; g < group_; ++g) {
    ScoreScan& scan = scratch.scans[static_cast<std::size_t>(g)];
    scan = scan_scores(scores_of(block, row, g, scratch), visible(row));
    if (scan.invalid || std::isinf(scan.maximum)) {
      fail({row, block.kv_head * group_ + g, scan.invalid});
      return false;
    }
  }
  return true;
}

void RowsAttention::weigh_dense(const RowIdentity& row, const ScoreScan& scan, float* scores,
                                HeadResult& result, Scratch& scratch) const {
  const bool records = state_.mode(row) == RowMode::record;
  const std::span<float> copy(scratch.copy.data(), static_cast<std::size_t>(row.visible));
  if (records) {
    std::transform(scores, scores + row.visible, copy.begin(),
                   [](float score) { return score * static_cast<float>(kLn2); });
  }
  const double sum = replace_exp2(scores, row.visible, scan.maximum);
  if (records) {
    const double log_sum_exp = static_cast<double>(scan.maximum) * kLn2 + std::log(sum);
    result.ln_theta = ln_softmax_quantile(copy, log_sum_exp, policy_.tau);
  }
  result.factor = static_cast<float>(1 / sum);
  result.mean_factor = 0;
}

HeadSelection RowsAttention::selection_of(const RowBlock& block, std::int64_t row, int group_head,
                                          Scratch& scratch) {
  const RowIdentity identity = segment_.identity(row);
  const int head = block.kv_head * group_ + group_head;
  HeadResult& head_result = result(row, head);
  HeadSelection selection;
  selection.scores = scores_of(block, row, group_head, scratch);
  selection.maximum = scratch.scans[static_cast<std::size_t>(group_head)].maximum;
  head_result.sum = sum_exp2(selection.scores, identity.visible, selection.maximum);
  if (policy_.adapt != 0) {
    head_result.ln_threshold = state_.ln_threshold(layer_, head, identity);
  }
  const double log2_sum_exp = static_cast<double>(selection.maximum) + std::log2(head_result.sum);
  selection.limit = static_cast<float>(head_result.ln_threshold * kLog2E + log2_sum_exp);
  head_result.facts.empty =
      !(selection.maximum > selection.limit) && policy_.sink == 0 && policy_.recent == 0;
  if (head_result.facts.empty && policy_.empty == EmptyRow::highest) {
    const float* end = selection.scores + identity.visible;
    selection.only = static_cast<std::int32_t>(
        std::find(static_cast<const float*>(selection.scores), end, selection.maximum) -
        selection.scores);
  }
  return selection;
}

void RowsAttention::weigh_sifted(const RowBlock& block, std::int64_t row, Scratch& scratch) {
  const std::int64_t keys = visible(row);
  for (int g = 0; g < group_; ++g) {
    scratch.selections[static_cast<std::size_t>(g)] = selection_of(block, row, g, scratch);
  }
  const UnionCount count =
      select_keys(scratch.selections.data(), group_, static_cast<std::int32_t>(keys),
                  static_cast<std::int32_t>(std::min(policy_.sink, keys)),
                  static_cast<std::int32_t>(std::max<std::int64_t>(keys - policy_.recent, 0)));
  group_result(row, block.kv_head) = {count.rows, count.eligible};
  for (int g = 0; g < group_; ++g) {
    take_selection(scratch.selections[static_cast<std::size_t>(g)],
                   result(row, block.kv_head * group_ + g));
  }
  if (policy_.adapt != 0) observe(block, row);
}

void RowsAttention::take_selection(const HeadSelection& selection, HeadResult& result) const {
  const bool empty = result.facts.empty;
  const double kept_mass = std::min(selection.kept_sum / result.sum, 1.0);
  result.facts = {selection.kept, empty ? 0 : selection.kept_eligible, kept_mass, empty};
  const bool renormalise = policy_.compensate == Compensate::renormalise && selection.kept_sum > 0;
  result.factor = static_cast<float>(1 / (renormalise ? selection.kept_sum : result.sum));
  result.mean_factor = static_cast<float>(1 - kept_mass);
}

void RowsAttention::observe(const RowBlock& block, std::int64_t row) {
  const RowIdentity identity = segment_.identity(row);
  for (int head = block.kv_head * group_; head < (block.kv_head + 1) * group_; ++head) {
    state_.observe_head(layer_, head, identity, result(row, head).facts);
  }
  const auto& group = group_result(row, block.kv_head);
  state_.observe_group(layer_, block.kv_head, identity, group.union_rows, group.union_eligible);
}

void RowsAttention::add_values(const RowBlock& block, Scratch& scratch) const {
  const auto stride = static_cast<std::size_t>(padded_dim_);
  std::fill_n(scratch.sums.data(), static_cast<std::size_t>(block.rows) * stride, 0.0F);
  std::fill_n(scratch.tile.data(), static_cast<std::size_t>(kPageRows) * stride, 0.0F);
  for (std::int64_t key = 0; key < block.keys; key += kPageRows) {
    const int count = static_cast<int>(std::min(kPageRows, block.keys - key));
    expand_rows(cache_.layout.type, cache_.value_page(block.kv_head, key / kPageRows), count, dim_,
                scratch.tile.data(), stride);
    multiply(block.rows, count, static_cast<int>(padded_dim_),
             {scratch.scores.data() + key, block.stride}, {scratch.tile.data(), stride},
             {scratch.sums.data(), stride}, true);
  }
}

void RowsAttention::write_output(const Span& span, const RowBlock& block,
                                 const Scratch& scratch) const {
  const bool adds_mean = span.sifts && policy_.compensate == Compensate::mean;
  const float* sums = scratch.sums.data();
  for (int group_head = 0; group_head < group_; ++group_head) {
    const int head = block.kv_head * group_ + group_head;
    for (std::int64_t row = block.begin; row < block.end; ++row, sums += padded_dim_) {
      const HeadResult& head_result = result(row, head);
      combine(sums, head_result.factor, adds_mean ? mean(row, block.kv_head) : nullptr,
              head_result.mean_factor, dim_, output_ + (row * shape_.heads + head) * dim_);
    }
  }
}

void RowsAttention::fail(const Failure& failure) {
#pragma omp critical(sift_attend_rows_failure)
  if (failure.before(failure_)) failure_ = failure;
}

void RowsAttention::throw_if_failed() const {
  if (failure_.row == std::numeric_limits<std::int64_t>::max()) return;
  throw Error(ErrorKind::numerical,
              failure_.invalid
                  ? fmt::format("attention score NaN or +Inf in layer {}, head {} of the row with "
                                "{} keys: expected finite numbers",
                                layer_, failure_.head, visible(failure_.row))
                  : fmt::format("no finite attention score in layer {}, head {} of the row with {} "
                                "keys",
                                layer_, failure_.head, visible(failure_.row)));
}

}  // namespace

std::size_t RowsWorkspace::bytes() const {
  std::size_t floats = keys.size() + means.size();
  for (const Scratch& s : scratch) {
    floats += s.queries.size() + s.scores.size() + s.tile.size() + s.rows.size() + s.sums.size() +
              s.copy.size();
  }
  return floats * sizeof(float) + head_results.capacity() * sizeof(HeadResult) +
         group_results.capacity() * sizeof(GroupResult);
}

void attend_rows(AttentionState& state, int layer, const CacheView& cache, const Segment& segment,
                 const float* query, float* output, RowsWorkspace& workspace) {
  if (segment.row_count == 0) return;
  RowsAttention(state, layer, cache, segment, query, output, workspace).run();
}

}  // namespace sift::cpu
