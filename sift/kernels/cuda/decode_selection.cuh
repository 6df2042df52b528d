#pragma once

#include "sift/kernels/cuda/decode_block.cuh"

namespace sift::cuda {

/// Exact scores of candidates are odd, estimates even (the lowest bit of their mantissa).
__device__ inline float mark_exact(float score) {
  constexpr float kLowest = -3.402823466e38F;  // odd; an odd −∞ would be no number
  return score == -__builtin_huge_valf() ? kLowest : __uint_as_float(__float_as_uint(score) | 1U);
}
__device__ inline bool is_exact(float score) { return (__float_as_uint(score) & 1U) != 0; }

/// Selects the rows that a warp goes on to read, and starts their copies: of V those that any head
/// keeps, or (kCandidates) of K those that are candidates of any head. Scores of the chunks of keys
/// that come next are on their way while rows are selected, across the ends of items.
template <class T, class Context, bool kCandidates>
class RowSelector {
 public:
  static constexpr int kMostHeads = Context::kMost;
  static constexpr Work kWork = kCandidates ? Work::candidates : Work::values;

  /// A tile of selected rows.
  struct Note {
    int place = 0;  ///< in the ring of rows
    int rows = 0;
    bool last = false;  ///< of the item
  };

  __device__ RowSelector(Context& c, int turn)
      : c_(c), shared_(c.shared.selections[c.warp]), stage_turn_(turn - 1), turn_(turn - 1) {}

  /// Selects rows and starts their copies as long as there is room for them, up to the end of item
  /// `known`. Waits for an item's scores only when nothing else is left to do.
  __device__ void fill(int known) {
    while (c_.ring.has_room()) {
      stage(known);
      if (!opened_) {
        if (turn_ == stage_turn_) return;
        open();
      }
      if (tail_ - head_ < kTileKeys && begin_ < end_) {
        select_more();
      } else {
        issue();
      }
    }
  }

  /// The tile that the ring gives next.
  __device__ Note oldest_note() const {
    const auto note = static_cast<int>(notes_ >> 16 * c_.ring.behind() & 0xffffU);
    return {note >> 8, note >> 1 & 0x1f, (note & 1) != 0};
  }

 private:
  using Shared = Selection<kMostHeads, Context::kEstimated>;
  using Chunk = typename Shared::Chunk;
  static constexpr int kKeys = Shared::kKeys;
  static constexpr int kStep = kBlockWarps * kKeys;
  static_assert(Shared::kPlaces <= 256, "notes have 8 bits for places");

  // Notes of the tiles on their way, 16 bits each, the newest in the lowest bits.
  __device__ void add_note(const Note& note) {
    notes_ = notes_ << 16 | static_cast<unsigned>(note.place << 8 | note.rows << 1 | note.last);
  }

  // Starts copying scores as long as there are chunks to put them, up to the end of item `known`.
  __device__ void stage(int known) {
    while (staged_ - taken_ < Shared::kChunks) {
      if (stage_begin_ >= stage_end_) {
        if (stage_turn_ == known || c_.item(stage_turn_ + 1).work != kWork) return;
        if (!await_plan(c_.item(stage_turn_ + 1))) return;
        const Item& item = c_.item(++stage_turn_);
        stage_begin_ = item.begin + c_.warp * kKeys;
        stage_end_ = item.end;
      } else {
        stage_chunk(c_.item(stage_turn_));
        stage_begin_ += kStep;
      }
    }
  }

  // Whether the plans of an item's heads are complete, so that its scores are.
  __device__ bool await_plan(const Item& item) const {
    if (item.ready) return true;
    const UnitProgress& unit = c_.w.units[c_.unit(item)];
    const unsigned* planned = Context::kEstimated && !kCandidates ? &unit.replanned : &unit.planned;
    const bool waits = !opened_ && staged_ == taken_ && turn_ == stage_turn_ && c_.ring.empty();
    while (!__all_sync(kAllLanes, load_acquire(planned) != 0)) {
      if (!waits) return false;
    }
    return true;
  }

  // Starts copying plans, scores and pages of the keys from stage_begin_ on.
  __device__ void stage_chunk(const Item& item) {
    Chunk& chunk = shared_.chunks[staged_ % Shared::kChunks];
    if (c_.at.lane < c_.group) {
      const HeadPlan* plans = kCandidates ? c_.w.candidate_plans : c_.w.plans;
      copy_async_16(&chunk.plans[c_.at.lane], plans + c_.first_head(item) + c_.at.lane);
    }
    const float* scores = c_.scores(item) + stage_begin_;
    const std::int64_t stride = score_stride(item.length);
    constexpr int kPieces = kKeys / 4;
    for (int i = c_.at.lane; i < c_.group * kPieces; i += kWarpThreads) {
      const int head = i / kPieces;
      const int piece = i % kPieces;
      if (stage_begin_ + 4 * piece >= item.end) continue;
      copy_async_16(&chunk.scores[head][4 * piece], scores + head * stride + 4 * piece);
    }
    const RowFinder rows(c_.a.cache, item.request);
    if (rows.pages != nullptr) {
      const int first = stage_begin_ >> rows.page_shift;
      const int last = (min(stage_begin_ + kKeys, item.end) - 1) >> rows.page_shift;
      if (first + c_.at.lane <= last) {
        copy_async_4(&chunk.pages[c_.at.lane], rows.pages + first + c_.at.lane);
      }
    }
    groups_ = groups_ << 8 | (c_.groups.close() & 0xffU);
    ++staged_;
  }

  // Turns to the following item, whose first scores are on their way.
  __device__ void open() {
    const Item& item = c_.item(++turn_);
    begin_ = item.begin + c_.warp * kKeys;
    end_ = item.end;
    opened_ = true;
    fresh_ = true;
  }

  // Selects from the oldest chunk, which is the next one of the item.
  __device__ void select_more() {
    const Item& item = c_.item(turn_);
    const Chunk& chunk = shared_.chunks[taken_ % Shared::kChunks];
    c_.groups.wait_for(groups_ >> 8 * (staged_ - taken_ - 1));
    if (fresh_) find_only_keys(item, chunk.plans);
    fresh_ = false;
    if (keeps_one_ || begin_ < c_.a.sink || begin_ + kKeys > item.length - c_.a.recent) {
      select<true>(item, chunk);
    } else {
      select<false>(item, chunk);
    }
    ++taken_;
    begin_ += kStep;
  }

  // Looks for the keys that are kept though nothing passes. The heads' plans are there.
  __device__ void find_only_keys(const Item& item, const HeadPlan* plans) {
    unsigned heads = 0;
    if (kCandidates || c_.a.empty == EmptyHead::highest) {
      heads = __ballot_sync(kAllLanes, c_.at.lane < c_.group && plans[c_.at.lane].empty != 0);
    }
    keeps_one_ = heads != 0;
    if (!keeps_one_) return;
    if (c_.at.lane < c_.group) shared_.only_keys[c_.at.lane] = -1;
    __syncwarp();
    for (; heads != 0; heads &= heads - 1) {
      const int head = __ffs(static_cast<int>(heads)) - 1;
      const int key = highest_key(item, head, plans[head].maximum);
      if (c_.at.lane == 0) shared_.only_keys[head] = key;
    }
    __syncwarp();
  }

  // The lowest key with the highest score if it lies in this item, else −1.
  __device__ int highest_key(const Item& item, int head, float maximum) const {
    bool earlier = false;
    if (Context::kEstimated && !kCandidates) {
      const RescoredSum* sums =
          c_.w.rescored_sums + std::int64_t{item.first_part} * c_.group + head;
      const int before = value_cut(item.length).items_before(item.begin);
      for (int i = c_.at.lane; i < before; i += kWarpThreads) {
        earlier = earlier || __ldcg(&sums[i * c_.group].candidates.maximum) == maximum;
      }
    } else {
      const ItemSum* sums = c_.w.item_sums + std::int64_t{item.first_sum} * c_.group + head;
      const int before = score_cut(item.length).items_before(item.begin);
      for (int i = c_.at.lane; i < before; i += kWarpThreads) {
        earlier = earlier || __ldcg(&sums[i * c_.group].maximum) == maximum;
      }
    }
    if (__any_sync(kAllLanes, earlier)) return -1;
    const float* scores = c_.scores(item) + std::int64_t{head} * score_stride(item.length);
    unsigned lowest = ~0U;
    for (int key = item.begin + c_.at.lane; key < item.end && lowest == ~0U; key += kWarpThreads) {
      if (__ldcg(scores + key) == maximum) lowest = static_cast<unsigned>(key);
    }
    return static_cast<int>(__reduce_min_sync(kAllLanes, lowest));
  }

  // Starts copying the next rows: 16, or what is left of the item.
  __device__ void issue() {
    const Item& item = c_.item(turn_);
    Note note;
    note.place = head_ % Shared::kPlaces;
    note.rows = min(tail_ - head_, kTileKeys);
    note.last = begin_ >= end_ && tail_ - head_ <= kTileKeys;
    add_note(note);
    if (note.rows > 0) {
      c_.ring.issue(c_.groups, note.rows,
                    c_.side(item, kCandidates ? c_.a.cache.keys : c_.a.cache.values),
                    shared_.offsets + note.place);
    } else {
      c_.ring.issue_nothing(c_.groups);
    }
    head_ += kTileKeys;
    if (!note.last) return;
    tail_ = head_;
    opened_ = false;
    if constexpr (kCandidates) {
      count_candidates(item);
    } else {
      count_kept(item);
    }
  }

  // Appends the rows that any head keeps of the keys whose scores are there. kSpecial: some keys
  // may be kept whatever their score.
  template <bool kSpecial>
  __device__ void select(const Item& item, const Chunk& chunk) {
    const CacheAddress& cache = c_.a.cache;
    const auto page_units = static_cast<std::uint32_t>(cache.page_stride / 16);
    const auto slot_units = static_cast<std::uint32_t>(cache.slot_stride / 16);
    const int first_page = begin_ >> cache.page_shift;
    const int slot_mask = cache.table == nullptr ? ~0 : (1 << cache.page_shift) - 1;
#pragma unroll 2
    for (int round = 0; round < kKeys / kWarpThreads; ++round) {
      const int place = round * kWarpThreads + c_.at.lane;
      const int key = begin_ + place;
      const bool valid = key < end_;
      const bool forced =
          kSpecial && valid && (key < c_.a.sink || key >= item.length - c_.a.recent);
      bool any = forced;
      float weights[kMostHeads] = {};
      unsigned heads = 0;
#pragma unroll
      for (int head = 0; head < kMostHeads; ++head) {
        if (head >= c_.group) continue;
        const HeadPlan& plan = chunk.plans[head];
        const float score = chunk.scores[head][place];
        bool passes = valid && score > plan.threshold;
        if (Context::kEstimated && !kCandidates) passes = passes && is_exact(score);
        bool kept = passes;
        if constexpr (kSpecial) {
          kept = passes || forced || (valid && keeps_one_ && key == shared_.only_keys[head]);
          count(head, kept, passes && !forced);
        } else {
          count(head, kept, kept);
        }
        if constexpr (kCandidates) {
          heads |= kept ? 1U << head : 0;
          const float other = exp2_fast(score - others_reference(plan));
          if (valid && !kept) others_[head] += other;
        } else {
          weights[head] = exp2_fast(score - plan.maximum);
          if (!kept) weights[head] = 0;
        }
        any = any || kept;
      }
      const unsigned keeping = __ballot_sync(kAllLanes, any);
      if (any) {
        const int to = (tail_ + __popc(keeping & ((1U << c_.at.lane) - 1))) % Shared::kPlaces;
        const int page = cache.table == nullptr
                             ? item.request
                             : chunk.pages[(key >> cache.page_shift) - first_page];
        shared_.offsets[to] = static_cast<std::uint32_t>(page) * page_units +
                              static_cast<std::uint32_t>(key & slot_mask) * slot_units;
        if constexpr (kCandidates) {
          shared_.keys[to] = key;
          shared_.heads[to] = static_cast<std::uint16_t>(heads);
        } else {
#pragma unroll
          for (int head = 0; head < kMostHeads; ++head) {
            if (head < c_.group) shared_.weights[head][to] = Format<T>::bits(weights[head]);
          }
        }
      }
      tail_ += __popc(keeping);
      facts_.rows += __popc(keeping);
      facts_.rows_eligible +=
          kSpecial ? __popc(__ballot_sync(kAllLanes, any && !forced)) : __popc(keeping);
    }
    __syncwarp();
  }

  // What estimates of keys that are no candidates are summed relative to: none is greater.
  static __device__ float others_reference(const HeadPlan& plan) {
    return finite_reference(fminf(plan.maximum, plan.threshold));
  }

  // Adds the candidates of the item to the counter of its unit, and puts the sums of the others
  // where the block adds them.
  __device__ void count_candidates(const Item& item) {
    const auto& plans = c_.w.candidate_plans;
#pragma unroll
    for (int head = 0; head < kMostHeads; ++head) {
      if (head >= c_.group) continue;
      const float sum = sum_lanes(others_[head]);
      others_[head] = 0;
      if (c_.at.lane == head) {
        const HeadPlan plan = plans[c_.first_head(item) + head];
        c_.shared.results.others[turn_ % 4][c_.warp][head] = {others_reference(plan), sum};
      }
    }
    __syncwarp();
    if (c_.at.lane == 0) atomicAdd(&c_.w.units[c_.unit(item)].candidates, facts_.rows);
    facts_ = {};
  }

  // Two heads' counts of this lane's keys share a word.
  __device__ void count(int head, bool kept, bool eligible) {
    const unsigned one = 1U << (head % 2 * 16);
    kept_[head / 2] += kept ? one : 0;
    eligible_[head / 2] += eligible ? one : 0;
  }

  // Adds what was kept of the item to the counters of its unit.
  __device__ void count_kept(const Item& item) {
    KeptCount mine;
#pragma unroll
    for (int head = 0; head < kMostHeads; ++head) {
      const int shift = head % 2 * 16;
      const unsigned kept = __reduce_add_sync(kAllLanes, kept_[head / 2] >> shift & 0xffffU);
      const unsigned eligible =
          __reduce_add_sync(kAllLanes, eligible_[head / 2] >> shift & 0xffffU);
      if (c_.at.lane == head) mine = {static_cast<int>(kept), static_cast<int>(eligible)};
    }
    if (c_.at.lane < c_.group) {
      KeptCount& kept = c_.w.kept[c_.first_head(item) + c_.at.lane];
      atomicAdd(&kept.kept, mine.kept);
      atomicAdd(&kept.kept_eligible, mine.kept_eligible);
    }
    if (c_.at.lane == 0) {
      UnitProgress& progress = c_.w.units[c_.unit(item)];
      atomicAdd(&progress.rows, facts_.rows);
      atomicAdd(&progress.rows_eligible, facts_.rows_eligible);
    }
    for (unsigned& counts : kept_) counts = 0;
    for (unsigned& counts : eligible_) counts = 0;
    facts_ = {};
  }

  Context& c_;
  Shared& shared_;
  std::uint64_t notes_ = 0;

  // Scores on their way.
  int stage_turn_;  // of the item that they are of
  int stage_begin_ = 0;
  int stage_end_ = 0;
  int staged_ = 0;       // chunks, all in all
  int taken_ = 0;        // chunks that were selected from
  unsigned groups_ = 0;  // of the chunks' copies, 8 bits each, the newest in the lowest bits

  // Selection.
  int turn_;             // of the item that rows are selected from
  bool opened_ = false;  // rows of that item are left
  bool fresh_ = false;   // nothing was selected from it yet
  int begin_ = 0;        // of the keys that come next
  int end_ = 0;
  bool keeps_one_ = false;  // a head may keep a key though nothing passes
  int head_ = 0;            // of the ring of rows: those before it were given out
  int tail_ = 0;            // of the ring of rows
  unsigned kept_[(kMostHeads + 1) / 2] = {};
  unsigned eligible_[(kMostHeads + 1) / 2] = {};
  float others_[kCandidates ? kMostHeads : 1] = {};  // of this lane's keys
  StepGroupFacts facts_;
};

}  // namespace sift::cuda
