#include "sift/kernels/cpu/row_block.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
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

// Shadows of a page's keys as floats [count, head_dim]. They are expanded once for many rows, so
// the plain definition is fast enough, and takes every format.
void expand_shadows(const RowsCall& call, int kv_head, std::int64_t page, int count, float* rows) {
  const KeyShadowFormat format =
      key_shadow_format(call.state.policy(), call.cache.layout.shadow_order);
  for (int i = 0; i < count; ++i) {
    read_key_shadow(format,
                    call.cache.sidecar_row(Sidecar::key_shadow, kv_head, page * kPageRows + i),
                    call.dim(), rows + i * call.dim());
  }
}

}  // namespace

std::int64_t RowsCall::padded_dim() const { return pad_columns(dim()); }

std::int64_t block_height(const AttentionShape& shape, std::int64_t keys) {
  const std::int64_t group = shape.group_size();
  const std::size_t row_bytes =
      static_cast<std::size_t>(group) * static_cast<std::size_t>(keys) * sizeof(float);
  const auto fitting = static_cast<std::int64_t>(kScoreBytes / row_bytes);
  return std::clamp<std::int64_t>(fitting, 1, std::max<std::int64_t>(kBlockRows / group, 1));
}

ScratchSizes scratch_sizes(const AttentionShape& shape, std::int64_t height, std::int64_t keys,
                           bool estimates) {
  const auto rows = static_cast<std::size_t>(round_up(height * shape.group_size(), kRowsTogether));
  const auto dim = static_cast<std::size_t>(shape.head_dim);
  const auto padded_dim = static_cast<std::size_t>(pad_columns(shape.head_dim));
  ScratchSizes sizes;
  sizes.queries = rows * dim;
  sizes.scores = rows * score_stride(keys);
  sizes.tile = padded_dim * kPageRows;
  sizes.rows = dim * kPageRows;
  sizes.sums = rows * padded_dim;
  sizes.copy = static_cast<std::size_t>(keys) + kStridePad;
  if (estimates) {
    sizes.estimates = sizes.scores;
    sizes.exact_sums = sizes.sums;
  }
  return sizes;
}

void ensure_scratch(const RowsCall& call, std::int64_t height, std::int64_t keys) {
  const auto group = static_cast<std::size_t>(call.group());
  const ScratchSizes sizes = scratch_sizes(call.state.shape(), height, keys, call.estimates());
  for (RowsWorkspace::Scratch& scratch : call.workspace.scratch) {
    scratch.queries.ensure(sizes.queries);
    scratch.scores.ensure(sizes.scores);
    scratch.estimates.ensure(sizes.estimates);
    scratch.tile.ensure(sizes.tile);
    scratch.rows.ensure(sizes.rows);
    scratch.sums.ensure(sizes.sums);
    scratch.exact_sums.ensure(sizes.exact_sums);
    scratch.copy.ensure(sizes.copy);
    scratch.scans.resize(group);
    scratch.estimate_scans.resize(group);
    scratch.selections.resize(group);
    scratch.estimated.resize(group);
  }
}

void expand_key_tile(const RowsCall& call, KeySource source, int kv_head, std::int64_t page,
                     std::int64_t keys, float* rows, float* tile) {
  const int count = static_cast<int>(std::min(kPageRows, keys - page * kPageRows));
  if (count < kPageRows) std::fill_n(tile, call.tile_size(), 0.0F);
  if (source == KeySource::exact) {
    expand_rows(call.cache.layout.type, call.cache.key_page(kv_head, page), count, call.dim(), rows,
                static_cast<std::size_t>(call.dim()));
  } else {
    expand_shadows(call, kv_head, page, count, rows);
  }
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
      keys_(call.slots(end - 1)),
      stride_(score_stride(keys_)),
      rows_(static_cast<int>(round_up((end - begin) * group_, kRowsTogether))) {}

RowFailure RowBlock::run() {
  const bool estimates = call_.estimates();
  pack_queries();
  score(KeySource::exact, scratch_.scores.data());
  if (estimates) score(KeySource::shadow, scratch_.estimates.data());
  for (std::int64_t row = begin_; row < end_; ++row) weigh_row(row);
  add_values(estimates ? scratch_.estimates.data() : scratch_.scores.data(), scratch_.sums.data());
  write_output();
  if (estimates) {
    add_values(scratch_.scores.data(), scratch_.exact_sums.data());
    compare_outputs();
  }
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

const float* RowBlock::key_tile(KeySource source, std::int64_t page) {
  if (page < call_.panel_pages) {
    const auto index = static_cast<std::size_t>(kv_head_ * call_.panel_pages + page);
    const RowsWorkspace& workspace = call_.workspace;
    const auto& panel = source == KeySource::exact ? workspace.keys : workspace.shadows;
    return panel.data() + index * call_.tile_size();
  }
  expand_key_tile(call_, source, kv_head_, page, keys_, scratch_.rows.data(), scratch_.tile.data());
  return scratch_.tile.data();
}

void RowBlock::score(KeySource source, float* scores) {
  for (std::int64_t key = 0; key < keys_; key += kPageRows) {
    multiply(rows_, dim_, static_cast<int>(kPageRows),
             {scratch_.queries.data(), static_cast<std::size_t>(dim_)},
             {key_tile(source, key / kPageRows), static_cast<std::size_t>(kPageRows)},
             {scores + key, stride_}, false);
  }
}

// Scores become weights; keys that the row does not see get 0.
void RowBlock::weigh_row(std::int64_t row) {
  const bool usable = evicts(policy_) ? weigh_retained(row) : weigh_visible(row);
  const std::int64_t weighed = usable ? call_.slots(row) : 0;
  for (int g = 0; g < group_; ++g) {
    std::fill(scores(row, g) + weighed, scores(row, g) + keys_, 0.0F);
    if (call_.estimates()) std::fill(estimates(row, g) + weighed, estimates(row, g) + keys_, 0.0F);
  }
}

bool RowBlock::weigh_visible(std::int64_t row) {
  if (!scan_row(row)) return false;
  if (call_.state.score_observer() != nullptr) show_scores(row);
  if (call_.estimates()) {
    weigh_estimated(row);
  } else if (call_.span.sifts) {
    weigh_sifted(row);
  } else {
    for (int g = 0; g < group_; ++g) weigh_dense(row, g);
  }
  return true;
}

bool RowBlock::scan_row(std::int64_t row) {
  for (int g = 0; g < group_; ++g) {
    ScoreScan& scan = scratch_.scans[static_cast<std::size_t>(g)];
    scan = scan_scores(scores(row, g), call_.slots(row));
    if (!is_usable(row, g, scan)) return false;
    if (!call_.estimates()) continue;
    ScoreScan& estimate_scan = scratch_.estimate_scans[static_cast<std::size_t>(g)];
    estimate_scan = scan_scores(estimates(row, g), call_.visible(row));
    if (!is_usable(row, g, estimate_scan)) return false;
  }
  return true;
}

bool RowBlock::is_usable(std::int64_t row, int group_head, const ScoreScan& scan) {
  if (!scan.invalid && !std::isinf(scan.maximum)) return true;
  const RowFailure failure{row, head(group_head), scan.invalid};
  if (failure.before(failure_)) failure_ = failure;
  return false;
}

// A copy of a row's scores in natural logarithms.
std::span<float> RowBlock::natural_scores(std::int64_t row, int group_head) {
  const std::span<float> copy(scratch_.copy.data(), static_cast<std::size_t>(call_.slots(row)));
  const float* row_scores = scores(row, group_head);
  std::transform(row_scores, row_scores + copy.size(), copy.begin(),
                 [](float score) { return score * static_cast<float>(kLn2); });
  return copy;
}

void RowBlock::show_scores(std::int64_t row) {
  ScoreObserver& observer = *call_.state.score_observer();
  const RowIdentity identity = call_.segment.identity(row);
  if (!observer.wants(identity)) return;
  for (int g = 0; g < group_; ++g) {
    const float maximum = scratch_.scans[static_cast<std::size_t>(g)].maximum;
    const double sum = sum_exp2(scores(row, g), identity.visible, maximum);
    observer.take(call_.layer, head(g), identity, natural_scores(row, g),
                  static_cast<double>(maximum) * kLn2 + std::log(sum));
  }
}

void RowBlock::weigh_dense(std::int64_t row, int group_head) {
  const RowIdentity identity = call_.segment.identity(row);
  const float maximum = scratch_.scans[static_cast<std::size_t>(group_head)].maximum;
  float* row_scores = scores(row, group_head);
  HeadResult& result = call_.head_result(row, head(group_head));
  const bool records = call_.state.mode(identity) == RowMode::record;
  const std::span<float> copy = records ? natural_scores(row, group_head) : std::span<float>();
  const double sum = replace_exp2(row_scores, call_.slots(row), maximum);
  if (records) {
    const double log_sum_exp = static_cast<double>(maximum) * kLn2 + std::log(sum);
    result.ln_theta = policy_.threshold == Threshold::raw
                          ? raw_quantile(copy, policy_.tau)
                          : ln_softmax_quantile(copy, log_sum_exp, policy_.tau);
  }
  result.factors = {static_cast<float>(1 / sum), 0};
}

// Dense over the rows that stay, where the policy evicts.
bool RowBlock::weigh_retained(std::int64_t row) {
  RetainedRows& rows = call_.retained[static_cast<std::size_t>(kv_head_)];
  const bool generated = call_.segment.identity(row).generated > 0;
  if (generated) rows.evict();
  rows.admit();
  for (int g = 0; g < group_; ++g) {
    float* row_scores = scores(row, g);
    for (const std::int64_t slot : rows.evicted_slots()) {
      row_scores[slot] = -std::numeric_limits<float>::infinity();
    }
  }
  if (!scan_row(row)) return false;
  for (int g = 0; g < group_; ++g) {
    weigh_dense(row, g);
    HeadResult& result = call_.head_result(row, head(g));
    result.facts = {.kept = rows.rows()};
    rows.add_mass(0, scores(row, g), rows.slots(), static_cast<double>(result.factors.sum));
  }
  call_.group_facts(row, kv_head_) = {.union_rows = rows.rows()};
  if (generated) rows.evict();
  return true;
}

void RowBlock::weigh_sifted(std::int64_t row) {
  std::vector<HeadSelection>& selections = scratch_.selections;
  for (int g = 0; g < group_; ++g) {
    selections[static_cast<std::size_t>(g)] = exact_selection(row, g);
  }
  const UnionCount count = select_row(row, selections);
  call_.group_facts(row, kv_head_) = {count.rows, count.eligible};
  for (int g = 0; g < group_; ++g) {
    take_selection(selections[static_cast<std::size_t>(g)], call_.head_result(row, head(g)));
  }
  if (call_.carries()) observe(row);
}

HeadSelection RowBlock::exact_selection(std::int64_t row, int group_head) {
  const RowIdentity identity = call_.segment.identity(row);
  HeadResult& result = call_.head_result(row, head(group_head));
  if (call_.carries() && policy_.select == Select::above) {
    result.ln_threshold = call_.state.ln_threshold(call_.layer, head(group_head), identity);
  }
  float* row_scores = scores(row, group_head);
  const float maximum = scratch_.scans[static_cast<std::size_t>(group_head)].maximum;
  const ScoreSum known{maximum, sum_exp2(row_scores, identity.visible, maximum)};
  if (policy_.select == Select::largest) {
    return largest_selection(row_scores, known, identity.visible);
  }
  if (policy_.select == Select::custom) return custom_selection(row, group_head, known);
  return selection_of(row_scores, maximum, known, result.ln_threshold, identity.visible);
}

// The scores of keys that the policy's own code does not keep are lowered to the limit.
HeadSelection RowBlock::custom_selection(std::int64_t row, int group_head, const ScoreSum& known) {
  const RowIdentity identity = call_.segment.identity(row);
  const auto visible = static_cast<std::size_t>(identity.visible);
  const std::span<float> row_scores(scores(row, group_head), visible);
  const std::span<float> natural(scratch_.copy.data(), visible);
  scratch_.kept.resize(visible);
  std::ranges::transform(row_scores, natural.begin(),
                         [](float score) { return score * static_cast<float>(kLn2); });
  const double log_sum_exp = static_cast<double>(known.maximum) * kLn2 + std::log(known.sum);
  call_.state.select_keys(call_.layer, head(group_head), identity, natural, log_sum_exp,
                          scratch_.kept);
  HeadSelection selection;
  selection.scores = row_scores.data();
  selection.maximum = known.maximum;
  selection.sum = known.sum;
  selection.limit = -std::numeric_limits<float>::infinity();
  selection.empty = true;
  for (std::size_t key = 0; key < visible; ++key) {
    if (scratch_.kept[key]) {
      selection.empty = false;
    } else {
      row_scores[key] = selection.limit;
    }
  }
  return selection;
}

// A limit that exactly the keys of the highest ranks exceed. Of keys with equal scores at it the
// later ones are lowered.
HeadSelection RowBlock::largest_selection(float* scores, const ScoreSum& known,
                                          std::int64_t visible) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::int64_t count = call_.state.eligible_keys(visible);
  const std::int64_t ranked = call_.state.ranked_keys(visible);
  HeadSelection selection;
  selection.scores = scores;
  selection.maximum = known.maximum;
  selection.sum = known.sum;
  selection.empty = ranked == 0 && !forces();
  selection.limit = ranked == 0 ? kInfinity : -kInfinity;
  if (ranked == 0 || ranked == count) return selection;
  const std::span<float> eligible(scores + policy_.sink, static_cast<std::size_t>(count));
  const std::span<float> copy(scratch_.copy.data(), eligible.size());
  std::ranges::copy(eligible, copy.begin());
  const auto last = copy.begin() + (ranked - 1);
  std::ranges::nth_element(copy, last, std::greater());
  const float lowest = *last;
  selection.limit = std::nextafter(lowest, -kInfinity);
  std::int64_t left = ranked - std::ranges::count_if(eligible, [&](float s) { return s > lowest; });
  for (float& score : eligible) {
    if (score == lowest && --left < 0) score = selection.limit;
  }
  return selection;
}

float RowBlock::limit_of(const ScoreSum& known, double ln_threshold) const {
  const bool raw = policy_.threshold == Threshold::raw;
  const double reference = raw ? 0 : static_cast<double>(known.maximum) + std::log2(known.sum);
  return static_cast<float>(ln_threshold * kLog2E + reference);
}

// `highest`: of the scores that may be kept.
HeadSelection RowBlock::selection_of(float* scores, float highest, const ScoreSum& known,
                                     double ln_threshold, std::int64_t visible) const {
  HeadSelection selection;
  selection.scores = scores;
  selection.maximum = known.maximum;
  selection.sum = known.sum;
  selection.limit = limit_of(known, ln_threshold);
  selection.empty = !forces() && highest <= selection.limit;
  if (selection.empty && policy_.empty == EmptyRow::highest) {
    selection.only =
        static_cast<std::int32_t>(std::find(scores, scores + visible, highest) - scores);
  }
  return selection;
}

UnionCount RowBlock::select_row(std::int64_t row, std::vector<HeadSelection>& selections) const {
  const std::int64_t visible = call_.visible(row);
  const std::int64_t forced_before = std::min(policy_.sink, visible);
  const std::int64_t forced_from = std::max<std::int64_t>(visible - policy_.recent, 0);
  return select_keys(selections.data(), group_, static_cast<std::int32_t>(visible),
                     static_cast<std::int32_t>(forced_before),
                     static_cast<std::int32_t>(forced_from));
}

RowsWorkspace::OutputFactors RowBlock::factors_of(const HeadSelection& selection) const {
  const bool renormalise = policy_.compensate == Compensate::renormalise && selection.kept_sum > 0;
  const double kept_mass = std::min(selection.kept_sum / selection.sum, 1.0);
  return {static_cast<float>(1 / (renormalise ? selection.kept_sum : selection.sum)),
          static_cast<float>(1 - kept_mass)};
}

void RowBlock::take_selection(const HeadSelection& selection, HeadResult& result) const {
  const double kept_mass = std::min(selection.kept_sum / selection.sum, 1.0);
  result.facts = {selection.kept, selection.empty ? 0 : selection.kept_eligible, kept_mass,
                  selection.empty};
  result.factors = factors_of(selection);
}

void RowBlock::observe(std::int64_t row) {
  const RowIdentity identity = call_.segment.identity(row);
  for (int g = 0; g < group_; ++g) {
    call_.state.observe_head(call_.layer, head(g), identity, call_.head_result(row, head(g)).facts);
  }
  call_.state.observe_group(call_.layer, kv_head_, identity, call_.group_facts(row, kv_head_));
}

// sums [block rows, padded head_dim] of values under weights [block rows, keys].
void RowBlock::add_values(const float* weights, float* sums) {
  const auto stride = static_cast<std::size_t>(call_.padded_dim());
  std::fill_n(sums, static_cast<std::size_t>(rows_) * stride, 0.0F);
  std::fill_n(scratch_.tile.data(), static_cast<std::size_t>(kPageRows) * stride, 0.0F);
  for (std::int64_t key = 0; key < keys_; key += kPageRows) {
    const int count = static_cast<int>(std::min(kPageRows, keys_ - key));
    expand_rows(call_.cache.layout.type, call_.cache.value_page(kv_head_, key / kPageRows), count,
                dim_, scratch_.tile.data(), stride);
    multiply(rows_, count, static_cast<int>(stride), {weights + key, stride_},
             {scratch_.tile.data(), stride}, {sums, stride}, true);
  }
}

void RowBlock::write_output() const {
  const float* sums = scratch_.sums.data();
  for (int g = 0; g < group_; ++g) {
    for (std::int64_t row = begin_; row < end_; ++row, sums += call_.padded_dim()) {
      const OutputFactors& factors = call_.head_result(row, head(g)).factors;
      combine(sums, factors.sum, call_.adds_mean() ? call_.mean(row, kv_head_) : nullptr,
              factors.mean, dim_, call_.output + (row * call_.heads() + head(g)) * dim_);
    }
  }
}

}  // namespace sift::cpu
