// What DecodePass does once scores are known: it finds the survivors of a chunk, weighs their rows,
// and takes the quantiles of recorded rows.

#include <algorithm>
#include <cstring>

#include "sift/kernels/cpu/attend_decode_pass.h"
#include "sift/kernels/cpu/order_statistics.h"
#include "sift/sifting/quantile.h"

namespace sift::cpu {
namespace {

constexpr double kLn2 = 0.693147180559945309417;

}  // namespace

void DecodePass::value_item(std::int64_t number, const Item& at, std::int64_t next_number,
                            const Item& next, DecodeThread& thread) {
  Survivors& survivors = thread.survivors[thread.turn];
  thread.turn = 1 - thread.turn;
  Survivors& following = thread.survivors[thread.turn];
  wait_for(workspace_.progress[at.kv_head].planned);
  if (survivors.item != number) select_chunk(number, at, thread, survivors);
  // The next item's survivors are sought now, so that their rows can be on their way.
  following.row_count = 0;
  if (next.kind == Kind::values && is_planned(next.kv_head)) {
    select_chunk(next_number, next, thread, following);
  }
  const std::byte* otherwise = first_bytes(next);
  if (otherwise == nullptr) otherwise = cache_.value_page(at.kv_head, at.chunk * kChunkPages);
  for (int i = 0; i < kRowsAhead; ++i) {
    survivors.rows[survivors.row_count + i] =
        i < following.row_count ? following.rows[i] : otherwise;
  }
  accumulate_chunk(at, survivors.weights.data(), survivors.rows.data(), survivors.row_count);
  finish_values(at.kv_head);
}

// Finds the keys of a chunk that any head keeps under its plan, and their scores.
Selected DecodePass::select(const Item& at, const std::vector<HeadPlan>& plans,
                            DecodeThread& thread, Survivors& survivors) {
  const std::int64_t first_key = at.chunk * kChunkKeys;
  for (int i = 0; i < layout_.group; ++i) {
    const HeadPlan& plan = plans[at.kv_head * layout_.group + i];
    const std::int64_t only = plan.only_key - first_key;
    thread.thresholds[i] = plan.threshold;
    thread.only_keys[i] =
        plan.only_key >= 0 && only >= 0 && only < kChunkKeys ? static_cast<int>(only) : -1;
  }
  const auto in_chunk = [first_key](std::int64_t key) {
    return static_cast<int>(std::clamp<std::int64_t>(key - first_key, 0, kChunkKeys));
  };
  const SelectTask task{.scores = chunk_scores(at.kv_head, at.chunk),
                        .group = layout_.group,
                        .keys = chunk_keys(at.chunk),
                        .thresholds = thread.thresholds.data(),
                        .only_keys = thread.only_keys.data(),
                        .forced_before = in_chunk(policy_.sink),
                        .forced_from = in_chunk(visible_ - policy_.recent)};
  Selected selected{.indices = survivors.indices.data(),
                    .scores = survivors.weights.data(),
                    .counts = survivors.counts.data(),
                    .masks = survivors.masks.data()};
  kernels_.select(task, selected);
  survivors.row_count = selected.rows;
  return selected;
}

// Finds the survivors of a chunk, their weights and their rows.
void DecodePass::select_chunk(std::int64_t number, const Item& at, DecodeThread& thread,
                              Survivors& survivors) {
  const Selected selected = select(at, workspace_.plans, thread, survivors);
  survivors.item = number;
  ChunkRows& rows = workspace_.chunk_rows[chunk_index(at.kv_head, at.chunk)];
  rows.values = selected.rows;
  rows.values_eligible = selected.rows_eligible;
  weigh_survivors(at, survivors);
  locate(value_pages(at), survivors);
}

// Scores become weights relative to the head's maximum.
void DecodePass::weigh_survivors(const Item& at, Survivors& survivors) {
  for (int i = 0; i < layout_.group; ++i) {
    const int head = at.kv_head * layout_.group + i;
    ChunkKept& kept = workspace_.chunk_kept[head_chunk_index(head, at.chunk)];
    kept.counts = survivors.counts[i];
    kept.mass =
        kernels_.replace_exp2(survivors.weights.data() + i * kScoreStride,
                              padded_keys(survivors.row_count), workspace_.plans[head].maximum);
  }
}

// Key numbers become addresses.
void DecodePass::locate(const ChunkPages& pages, Survivors& survivors) const {
  for (int i = 0; i < survivors.row_count; ++i) {
    const std::size_t key = survivors.indices[i];
    survivors.rows[i] = pages[key / kPageRows] + key % kPageRows * layout_.row_bytes;
  }
}

DecodePass::ChunkPages DecodePass::value_pages(const Item& at) const {
  ChunkPages pages = {};
  const std::int64_t count = (chunk_keys(at.chunk) + kPageRows - 1) / kPageRows;
  for (std::int64_t page = 0; page < count; ++page) {
    pages[page] = cache_.value_page(at.kv_head, at.chunk * kChunkPages + page);
  }
  return pages;
}

void DecodePass::accumulate_chunk(const Item& at, const float* weights,
                                  const std::byte* const* rows, int count) {
  const std::size_t size = static_cast<std::size_t>(layout_.group) * layout_.head_dim;
  float* sums = workspace_.partials.data() + chunk_index(at.kv_head, at.chunk) * size;
  std::fill(sums, sums + size, 0.0F);
  accumulate_(layout_, weights, rows, count, sums);
}

void DecodePass::quantile_item(int head, DecodeThread& thread) {
  const int kv_head = head / layout_.group;
  wait_for(workspace_.progress[kv_head].planned);
  const HeadPlan& plan = workspace_.plans[head];
  if (plan.not_finite || plan.all_minus_infinity) return;
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    std::memcpy(thread.order[0].data() + chunk * kChunkKeys,
                chunk_scores(kv_head, chunk) + head % layout_.group * kScoreStride,
                sizeof(float) * chunk_keys(chunk));
  }
  const QuantilePosition position = quantile_position(visible_, policy_.tau);
  const OrderStatistics found = order_statistics(kernels_, thread.order[0].span(), visible_,
                                                 position.lower, thread.order[1].span());
  const double lower = found.lower * kLn2;
  const double upper = found.upper * kLn2;
  workspace_.ln_thetas[head] =
      policy_.threshold == Threshold::raw
          ? interpolated_quantile(lower, upper, position.fraction)
          : ln_interpolated_quantile(lower, upper, position.fraction, plan.log_sum_exp * kLn2);
}

}  // namespace sift::cpu
