#include "sift/kernels/cpu/attend_rows.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "sift/core/error.h"
#include "sift/kernels/cpu/cache_row_kernels.h"
#include "sift/kernels/cpu/row_block.h"

namespace sift::cpu {
namespace {

constexpr std::size_t kKeyPanelBytes = 32U << 20;

/// Floats of one page of the keys of all KV heads.
std::size_t panel_page_floats(const AttentionShape& shape) {
  return static_cast<std::size_t>(shape.kv_heads * shape.head_dim) * kPageRows;
}

/// Pages of keys that are expanded once for all blocks.
std::int64_t panel_pages(const AttentionShape& shape, std::int64_t keys) {
  const std::size_t page_bytes = panel_page_floats(shape) * sizeof(float);
  return std::min((keys + kPageRows - 1) / kPageRows,
                  static_cast<std::int64_t>(kKeyPanelBytes / page_bytes));
}

bool needs_means(const Policy& policy) {
  return policy.select != Select::all && policy.compensate == Compensate::mean;
}

std::size_t means_floats(const AttentionShape& shape) {
  return static_cast<std::size_t>(shape.kv_heads * shape.head_dim) * kSpanRows;
}

/// One call of attend_rows: goes through the segment span by span and reports in row order.
class RowsAttention {
 public:
  explicit RowsAttention(const RowsCall& call);
  void run();

 private:
  void expand_keys(KeySource source, AlignedBuffer<float>& panel);
  RowSpan next_span(std::int64_t begin) const;
  void run_span();
  void prepare_thresholds();
  void compute_means(int kv_head);
  void run_blocks();
  void run_block(int kv_head, std::int64_t begin, std::int64_t height);
  void throw_if_failed() const;
  void report_row(std::int64_t row);
  void report_errors(std::int64_t row);

  RowsCall call_;
  int threads_;
  std::int64_t keys_;                       // slots up to that of the segment's last row
  std::vector<RetainedRows> retained_;      // [kv_heads] where the policy evicts
  std::vector<double> value_sums_;          // [kv_heads, head_dim] over the slots before
  std::vector<std::int64_t> summed_slots_;  // [kv_heads]
  RowFailure failure_;
};

RowsAttention::RowsAttention(const RowsCall& call)
    : call_(call), threads_(omp_get_max_threads()), keys_(call.slots(call.segment.row_count - 1)) {
  call_.workspace.scratch.resize(static_cast<std::size_t>(threads_));
  call_.panel_pages = panel_pages(call.state.shape(), keys_);
  const std::int64_t rows = std::min(call.segment.row_count, kSpanRows);
  call_.workspace.head_results.resize(static_cast<std::size_t>(rows * call_.heads()));
  call_.workspace.group_facts.resize(static_cast<std::size_t>(rows * call_.kv_heads()));
  for (int kv_head = 0; evicts(call_.state.policy()) && kv_head < call_.kv_heads(); ++kv_head) {
    retained_.emplace_back(call_.state.policy(), call_.cache, kv_head, call_.visible(0) - 1);
  }
  call_.retained = retained_;
}

void RowsAttention::run() {
  const Policy& policy = call_.state.policy();
  ensure_scratch(call_, 1, keys_);
  expand_keys(KeySource::exact, call_.workspace.keys);
  if (keeps_key_shadow(policy) && call_.segment.row_count > call_.segment.prompt_rows) {
    expand_keys(KeySource::shadow, call_.workspace.shadows);
  }
  if (needs_means(policy)) {
    value_sums_.assign(static_cast<std::size_t>(call_.kv_heads()) * call_.dim(), 0.0);
    summed_slots_.assign(static_cast<std::size_t>(call_.kv_heads()), 0);
    call_.workspace.means.ensure(means_floats(call_.state.shape()));
  }
  for (std::int64_t begin = 0; begin < call_.segment.row_count; begin = call_.span.end) {
    call_.span = next_span(begin);
    run_span();
  }
  for (RetainedRows& rows : retained_) rows.settle();
}

// Transposed once, the keys serve all row blocks and query heads.
void RowsAttention::expand_keys(KeySource source, AlignedBuffer<float>& panel) {
  const std::int64_t tiles = call_.panel_pages * call_.kv_heads();
  panel.ensure(static_cast<std::size_t>(call_.panel_pages) *
               panel_page_floats(call_.state.shape()));
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (std::int64_t index = 0; index < tiles; ++index) {
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    expand_key_tile(call_, source, static_cast<int>(index / call_.panel_pages),
                    index % call_.panel_pages, keys_, call_.workspace.scratch[thread].rows.data(),
                    panel.data() + static_cast<std::size_t>(index) * call_.tile_size());
  }
}

RowSpan RowsAttention::next_span(std::int64_t begin) const {
  const auto sifts = [&](std::int64_t row) {
    return call_.state.mode(call_.segment.identity(row)) == RowMode::sift;
  };
  RowSpan span{begin, begin + 1, sifts(begin)};
  const std::int64_t limit = std::min(call_.segment.row_count, begin + kSpanRows);
  while (span.end < limit && sifts(span.end) == span.sifts) ++span.end;
  return span;
}

void RowsAttention::run_span() {
  if (call_.adds_mean()) {
#pragma omp parallel for schedule(static) num_threads(threads_)
    for (int kv_head = 0; kv_head < call_.kv_heads(); ++kv_head) compute_means(kv_head);
  }
  const bool has_thresholds = call_.span.sifts && call_.state.policy().select == Select::above;
  if (has_thresholds && !call_.carries()) prepare_thresholds();
  run_blocks();
  throw_if_failed();
  for (std::int64_t row = call_.span.begin; row < call_.span.end; ++row) {
    if (!call_.carries()) report_row(row);  // others were observed one by one
    if (call_.estimates()) report_errors(row);
  }
}

void RowsAttention::prepare_thresholds() {
  for (std::int64_t row = call_.span.begin; row < call_.span.end; ++row) {
    for (int head = 0; head < call_.heads(); ++head) {
      call_.head_result(row, head).ln_threshold =
          call_.state.ln_threshold(call_.layer, head, call_.segment.identity(row));
    }
  }
}

// The running sum of the state already holds the whole segment, so the sums at each row are made
// again, in the order and precision of appending.
void RowsAttention::compute_means(int kv_head) {
  const int dim = call_.dim();
  const auto thread = static_cast<std::size_t>(omp_get_thread_num());
  float* value = call_.workspace.scratch[thread].rows.data();
  double* sums = value_sums_.data() + kv_head * dim;
  std::int64_t& slot = summed_slots_[static_cast<std::size_t>(kv_head)];
  for (std::int64_t row = call_.span.begin; row < call_.span.end; ++row) {
    for (; slot < call_.visible(row); ++slot) {
      expand_rows(call_.cache.layout.type, call_.cache.value_row(kv_head, slot), 1, dim, value, 0);
      add_to_sums(value, dim, sums);
    }
    for (int d = 0; d < dim; ++d) {
      call_.mean(row, kv_head)[d] = static_cast<float>(sums[d] / static_cast<double>(slot));
    }
  }
}

void RowsAttention::run_blocks() {
  const std::int64_t rows = call_.span.end - call_.span.begin;
  const std::int64_t keys = call_.slots(call_.span.end - 1);
  const std::int64_t height = std::min(block_height(call_.state.shape(), keys), rows);
  const std::int64_t blocks = (rows + height - 1) / height;
  ensure_scratch(call_, height, keys);
  // Rows that depend on each other go in order, one thread to a KV head. Otherwise the last blocks
  // start first, since they see the most keys.
  const bool in_order = call_.runs_in_order();
  const std::int64_t tasks = call_.kv_heads() * (in_order ? 1 : blocks);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const auto kv_head = static_cast<int>(task % call_.kv_heads());
    const std::int64_t first = in_order ? 0 : blocks - 1 - task / call_.kv_heads();
    const std::int64_t last = in_order ? blocks - 1 : first;
    for (std::int64_t block = first; block <= last; ++block) {
      run_block(kv_head, call_.span.begin + block * height, height);
    }
  }
}

void RowsAttention::run_block(int kv_head, std::int64_t begin, std::int64_t height) {
  const auto thread = static_cast<std::size_t>(omp_get_thread_num());
  RowBlock block(call_, kv_head, begin, std::min(begin + height, call_.span.end),
                 call_.workspace.scratch[thread]);
  const RowFailure failure = block.run();
#pragma omp critical(sift_attend_rows_failure)
  if (failure.before(failure_)) failure_ = failure;
}

void RowsAttention::throw_if_failed() const {
  if (!failure_.any()) return;
  const std::string_view what =
      failure_.invalid ? "a NaN or +Inf attention score" : "no finite attention score";
  throw Error(ErrorKind::numerical,
              fmt::format("{} in layer {}, head {} of the row that sees {} keys: expected finite "
                          "scores",
                          what, call_.layer, failure_.head, call_.visible(failure_.row)));
}

void RowsAttention::report_row(std::int64_t row) {
  const RowIdentity identity = call_.segment.identity(row);
  const RowMode mode = call_.state.mode(identity);
  for (int head = 0; head < call_.heads(); ++head) {
    const RowsWorkspace::HeadResult& result = call_.head_result(row, head);
    if (mode == RowMode::record) call_.state.record(call_.layer, head, identity, result.ln_theta);
    if (mode == RowMode::sift) {
      call_.state.observe_head(call_.layer, head, identity, result.facts);
    }
  }
  if (mode != RowMode::sift) {
    if (identity.generated > 0) call_.state.observe_dense(call_.layer, identity);
    return;
  }
  for (int kv_head = 0; kv_head < call_.kv_heads(); ++kv_head) {
    call_.state.observe_group(call_.layer, kv_head, identity, call_.group_facts(row, kv_head));
  }
}

void RowsAttention::report_errors(std::int64_t row) {
  for (int head = 0; head < call_.heads(); ++head) {
    call_.state.observe_error(call_.layer, head, call_.segment.identity(row),
                              call_.head_result(row, head).error);
  }
}

}  // namespace

std::size_t RowsWorkspace::bytes() const {
  std::size_t floats = keys.size() + shadows.size() + means.size();
  for (const Scratch& s : scratch) {
    floats += s.queries.size() + s.scores.size() + s.estimates.size() + s.tile.size() +
              s.rows.size() + s.sums.size() + s.exact_sums.size() + s.copy.size();
  }
  return floats * sizeof(float) + head_results.capacity() * sizeof(HeadResult) +
         group_facts.capacity() * sizeof(GroupFacts);
}

std::size_t rows_workspace_bytes(const AttentionShape& shape, const Policy& policy,
                                 std::int64_t rows, std::int64_t keys, int threads) {
  const std::int64_t height = std::min(block_height(shape, keys), rows);
  const bool estimates = keeps_key_shadow(policy);
  std::size_t floats =
      static_cast<std::size_t>(panel_pages(shape, keys)) * panel_page_floats(shape);
  if (estimates) floats *= 2;  // the shadows of the same pages
  if (needs_means(policy)) floats += means_floats(shape);
  floats +=
      static_cast<std::size_t>(threads) * scratch_sizes(shape, height, keys, estimates).total();
  const auto results = static_cast<std::size_t>(std::min(rows, kSpanRows));
  const std::size_t result_bytes =
      static_cast<std::size_t>(shape.heads) * sizeof(RowsWorkspace::HeadResult) +
      static_cast<std::size_t>(shape.kv_heads) * sizeof(GroupFacts);
  return floats * sizeof(float) + results * result_bytes;
}

void attend_rows(AttentionState& state, int layer, const CacheView& cache, const Segment& segment,
                 const float* query, float* output, RowsWorkspace& workspace) {
  if (segment.row_count == 0) return;
  RowsAttention({state, layer, cache, segment, query, output, workspace, 0, {}, {}}).run();
}

}  // namespace sift::cpu
