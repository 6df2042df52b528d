#include "sift/kernels/cpu/row_block.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "sift/kernels/cpu/cache_row_kernels.h"
#include "sift/kernels/cpu/row_kernels.h"
#include "sift/sifting/quantile.h"

namespace sift::cpu {
namespace {

constexpr std::int64_t kBlockRows = 96;        // rows × heads of a group that share expanded tiles
constexpr std::size_t kScoreBytes = 1U << 20;  // of one block
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

std::int64_t pad_columns(int dim) { return round_up(dim, kColumnMultiple); }

}  // namespace

std::int64_t RowsCall::padded_dim() const { return pad_columns(dim()); }

std::int64_t block_height(const AttentionShape& shape, std::int64_t keys) {
  const std::int64_t group = shape.group_size();
  const std::size_t row_bytes =
      static_cast<std::size_t>(group) * static_cast<std::size_t>(keys) * sizeof(float);
  const auto fitting = static_cast<std::int64_t>(kScoreBytes / row_bytes);
  return std::clamp<std::int64_t>(fitting, 1, std::max<std::int64_t>(kBlockRows / group, 1));
}

ScratchSizes scratch_sizes(const AttentionShape& shape, std::int64_t height, std::int64_t keys) {
  const auto rows = static_cast<std::size_t>(round_up(height * shape.group_size(), kRowsTogether));
  const auto dim = static_cast<std::size_t>(shape.head_dim);
  const auto padded_dim = static_cast<std::size_t>(pad_columns(shape.head_dim));
  ScratchSizes sizes;
  sizes.queries = rows * dim;
  sizes.scores = rows * score_stride(keys);
  sizes.tile = padded_dim * kPageRows;
  sizes.rows = dim * kPageRows;
  sizes.sums = rows * padded_dim;
  sizes.copy = static_cast<std::size_t>(keys);
  return sizes;
}

void ensure_scratch(const RowsCall& call, std::int64_t height, std::int64_t keys) {
  const auto group = static_cast<std::size_t>(call.group());
  const ScratchSizes sizes = scratch_sizes(call.state.shape(), height, keys);
  for (RowsWorkspace::Scratch& scratch : call.workspace.scratch) {
    scratch.queries.ensure(sizes.queries);
    scratch.scores.ensure(sizes.scores);
    scratch.tile.ensure(sizes.tile);
    scratch.rows.ensure(sizes.rows);
    scratch.sums.ensure(sizes.sums);
    scratch.copy.ensure(sizes.copy);
    scratch.scans.resize(group);
    scratch.selections.resize(group);
  }
}

void expand_key_tile(const RowsCall& call, int kv_head, std::int64_t page, std::int64_t keys,
                     float* rows, float* tile) {
  const int count = static_cast<int>(std::min(kPageRows, keys - page * kPageRows));
  if (count < kPageRows) std::fill_n(tile, call.tile_size(), 0.0F);
  expand_rows(call.cache.layout.type, call.cache.key_page(kv_head, page), count, call.dim(), rows,
              static_cast<std::size_t>(call.dim()));
  transpose(rows, count, call.dim(), tile, kPageRows);
}

RowBlock::RowBlock(const RowsCall& call, int kv_head, std::int64_t begin, std::int64_t end,
                   RowsWorkspace::Scratch& scratch)
    : call_(call),
      policy_(call.state.policy()),
      scratch_(scratch),
      kv_head_(kv_head),
      begin_(begin),
      end_(end),
      group_(call.group()),
      dim_(call.dim()),
      keys_(call.visible(end - 1)),
      stride_(score_stride(keys_)),
      rows_(static_cast<int>(round_up((end - begin) * group_, kRowsTogether))) {}

RowFailure RowBlock::run() {
  pack_queries();
  score();
  for (std::int64_t row = begin_; row < end_; ++row) weigh_row(row);
  add_values();
  write_output();
  return failure_;
}

void RowBlock::pack_queries() {
  const auto scale = static_cast<float>(kLog2E / std::sqrt(static_cast<double>(dim_)));
  float* packed = scratch_.queries.data();
  for (int g = 0; g < group_; ++g) {
    for (std::int64_t row = begin_; row < end_; ++row, packed += dim_) {
      const float* source = call_.query + (row * call_.heads() + head(g)) * dim_;
      for (int d = 0; d < dim_; ++d) packed[d] = source[d] * scale;
    }
  }
  const std::int64_t padding = rows_ - (end_ - begin_) * group_;
  std::fill_n(packed, padding * dim_, 0.0F);
}

const float* RowBlock::key_tile(std::int64_t page) {
  if (page < call_.panel_pages) {
    const auto index = static_cast<std::size_t>(kv_head_ * call_.panel_pages + page);
    return call_.workspace.keys.data() + index * call_.tile_size();
  }
  expand_key_tile(call_, kv_head_, page, keys_, scratch_.rows.data(), scratch_.tile.data());
  return scratch_.tile.data();
}

void RowBlock::score() {
  for (std::int64_t key = 0; key < keys_; key += kPageRows) {
    multiply(rows_, dim_, static_cast<int>(kPageRows),
             {scratch_.queries.data(), static_cast<std::size_t>(dim_)},
             {key_tile(key / kPageRows), static_cast<std::size_t>(kPageRows)},
             {scratch_.scores.data() + key, stride_}, false);
  }
}

// Scores become weights; keys that the row does not see get 0.
void RowBlock::weigh_row(std::int64_t row) {
  const bool usable = scan_row(row);
  if (usable && call_.span.sifts) {
    weigh_sifted(row);
  } else if (usable) {
    for (int g = 0; g < group_; ++g) weigh_dense(row, g);
  }
  const std::int64_t weighed = usable ? call_.visible(row) : 0;
  for (int g = 0; g < group_; ++g) {
    std::fill(scores(row, g) + weighed, scores(row, g) + keys_, 0.0F);
  }
}

bool RowBlock::scan_row(std::int64_t row) {
  for (int g = 0; g < group_; ++g) {
    ScoreScan& scan = scratch_.scans[static_cast<std::size_t>(g)];
    scan = scan_scores(scores(row, g), call_.visible(row));
    if (scan.invalid || std::isinf(scan.maximum)) {
      const RowFailure failure{row, head(g), scan.invalid};
      if (failure.before(failure_)) failure_ = failure;
      return false;
    }
  }
  return true;
}

void RowBlock::weigh_dense(std::int64_t row, int group_head) {
  const RowIdentity identity = call_.segment.identity(row);
  const float maximum = scratch_.scans[static_cast<std::size_t>(group_head)].maximum;
  float* row_scores = scores(row, group_head);
  HeadResult& result = call_.head_result(row, head(group_head));
  const bool records = call_.state.mode(identity) == RowMode::record;
  const std::span<float> copy(scratch_.copy.data(), static_cast<std::size_t>(identity.visible));
  if (records) {
    std::transform(row_scores, row_scores + identity.visible, copy.begin(),
                   [](float score) { return score * static_cast<float>(kLn2); });
  }
  const double sum = replace_exp2(row_scores, identity.visible, maximum);
  if (records) {
    const double log_sum_exp = static_cast<double>(maximum) * kLn2 + std::log(sum);
    result.ln_theta = ln_softmax_quantile(copy, log_sum_exp, policy_.tau);
  }
  result.factor = static_cast<float>(1 / sum);
  result.mean_factor = 0;
}

void RowBlock::weigh_sifted(std::int64_t row) {
  const std::int64_t visible = call_.visible(row);
  for (int g = 0; g < group_; ++g) {
    scratch_.selections[static_cast<std::size_t>(g)] = selection_of(row, g);
  }
  const std::int64_t forced_before = std::min(policy_.sink, visible);
  const std::int64_t forced_from = std::max<std::int64_t>(visible - policy_.recent, 0);
  const UnionCount count =
      select_keys(scratch_.selections.data(), group_, static_cast<std::int32_t>(visible),
                  static_cast<std::int32_t>(forced_before), static_cast<std::int32_t>(forced_from));
  call_.group_result(row, kv_head_) = {count.rows, count.eligible};
  for (int g = 0; g < group_; ++g) {
    take_selection(scratch_.selections[static_cast<std::size_t>(g)],
                   call_.head_result(row, head(g)));
  }
  if (call_.carries()) observe(row);
}

HeadSelection RowBlock::selection_of(std::int64_t row, int group_head) {
  const RowIdentity identity = call_.segment.identity(row);
  HeadResult& result = call_.head_result(row, head(group_head));
  HeadSelection selection;
  selection.scores = scores(row, group_head);
  selection.maximum = scratch_.scans[static_cast<std::size_t>(group_head)].maximum;
  result.sum = sum_exp2(selection.scores, identity.visible, selection.maximum);
  if (call_.carries()) {
    result.ln_threshold = call_.state.ln_threshold(call_.layer, head(group_head), identity);
  }
  const double log2_sum_exp = static_cast<double>(selection.maximum) + std::log2(result.sum);
  selection.limit = static_cast<float>(result.ln_threshold * kLog2E + log2_sum_exp);
  const bool forces = policy_.sink > 0 || policy_.recent > 0;
  result.facts.empty = !forces && selection.maximum <= selection.limit;
  if (result.facts.empty && policy_.empty == EmptyRow::highest) {
    const float* begin = selection.scores;
    const float* highest = std::find(begin, begin + identity.visible, selection.maximum);
    selection.only = static_cast<std::int32_t>(highest - begin);
  }
  return selection;
}

void RowBlock::take_selection(const HeadSelection& selection, HeadResult& result) const {
  const bool empty = result.facts.empty;
  const double kept_mass = std::min(selection.kept_sum / result.sum, 1.0);
  result.facts = {selection.kept, empty ? 0 : selection.kept_eligible, kept_mass, empty};
  const bool renormalise = policy_.compensate == Compensate::renormalise && selection.kept_sum > 0;
  result.factor = static_cast<float>(1 / (renormalise ? selection.kept_sum : result.sum));
  result.mean_factor = static_cast<float>(1 - kept_mass);
}

void RowBlock::observe(std::int64_t row) {
  const RowIdentity identity = call_.segment.identity(row);
  for (int g = 0; g < group_; ++g) {
    call_.state.observe_head(call_.layer, head(g), identity, call_.head_result(row, head(g)).facts);
  }
  const RowsWorkspace::GroupResult& group = call_.group_result(row, kv_head_);
  call_.state.observe_group(call_.layer, kv_head_, identity, group.union_rows,
                            group.union_eligible);
}

void RowBlock::add_values() {
  const auto stride = static_cast<std::size_t>(call_.padded_dim());
  std::fill_n(scratch_.sums.data(), static_cast<std::size_t>(rows_) * stride, 0.0F);
  std::fill_n(scratch_.tile.data(), static_cast<std::size_t>(kPageRows) * stride, 0.0F);
  for (std::int64_t key = 0; key < keys_; key += kPageRows) {
    const int count = static_cast<int>(std::min(kPageRows, keys_ - key));
    expand_rows(call_.cache.layout.type, call_.cache.value_page(kv_head_, key / kPageRows), count,
                dim_, scratch_.tile.data(), stride);
    multiply(rows_, count, static_cast<int>(stride), {scratch_.scores.data() + key, stride_},
             {scratch_.tile.data(), stride}, {scratch_.sums.data(), stride}, true);
  }
}

void RowBlock::write_output() const {
  const float* sums = scratch_.sums.data();
  for (int g = 0; g < group_; ++g) {
    for (std::int64_t row = begin_; row < end_; ++row, sums += call_.padded_dim()) {
      const HeadResult& result = call_.head_result(row, head(g));
      combine(sums, result.factor, call_.adds_mean() ? call_.mean(row, kv_head_) : nullptr,
              result.mean_factor, dim_, call_.output + (row * call_.heads() + head(g)) * dim_);
    }
  }
}

}  // namespace sift::cpu
