#pragma once

#include "sift/kernels/cuda/decode_partials.cuh"

namespace sift::cuda {

/// Which lanes of a warp work for which head where all go through values [items, group]: lane
/// `part` · group + `head` takes every parts-th item of its head.
struct HeadLanes {
  int group;
  int parts;
  int head;
  int part;

  __device__ HeadLanes(int heads, int lane)
      : group(heads), parts(kWarpThreads / heads), head(lane % heads), part(lane / heads) {}

  /// Maximum and sum of all items; complete in the lanes of part 0, one a head.
  __device__ ItemSum join_all(const ItemSum* sums, int items) const {
    ItemSum all{-__builtin_huge_valf(), 0};
    if (part < parts) {
#pragma unroll 4
      for (int i = part; i < items; i += parts) {
        const float2 pair = __ldcg(reinterpret_cast<const float2*>(sums + i * group + head));
        all = join(all, {pair.x, pair.y});
      }
    }
    const ItemSum mine = all;
    for (int other = 1; other < parts; ++other) {
      const int lane = (head + (part + other) * group) % kWarpThreads;
      const float maximum = __shfl_sync(kAllLanes, mine.maximum, lane);
      const float sum = __shfl_sync(kAllLanes, mine.sum, lane);
      all = join(all, {maximum, sum});
    }
    return all;
  }
};

/// The score that a head's keys must exceed, and whether none does and nothing is forced.
struct HeadThreshold {
  float log_sum_exp;
  float threshold;
  bool empty;
};
__device__ inline HeadThreshold head_threshold(const DecodeArguments& a, int request, int head,
                                               ItemSum all) {
  HeadThreshold result;
  result.log_sum_exp = finite_reference(all.maximum) + log2f(all.sum);
  const float log2_eta = a.method.head_states != nullptr ? log2_threshold(a.method, request, head)
                                                         : a.thresholds[request * a.heads + head];
  result.threshold = log2_eta + result.log_sum_exp;
  result.empty = !(all.maximum > result.threshold) && a.sink == 0 && a.recent == 0;
  return result;
}

/// Items of values of sifted requests: selects keys by their scores and adds up their values. Loads
/// of values run two tiles ahead of use, selection runs ahead of loads, and what selection needs is
/// on its way before that, across the ends of items.
template <class T, int kDim, int kMostHeads>
class ValueWorker {
 public:
  using Context = BlockContext<kDim, kMostHeads>;
  static constexpr int kHeadTiles = Context::kHeadTiles;

  __device__ ValueWorker(Context& c, int turn)
      : c_(c), shared_(c.shared.selections[c.warp]), ring_(c.ring()), turn_(turn - 1) {}

  /// Works on item `turn` and those of the same kind that follow; returns the first other one.
  __device__ int run(int turn) {
    for (; c_.item(turn).work == Work::values; ++turn) {
      c_.look_ahead(turn);
      values_.clear();
      for (float& mass : mass_) mass = 0;
      for (bool last = false; !last;) {
        fill(turn + 1);
        const Note note = oldest_note();
        last = note.last;
        const uint4* tile = ring_.wait();
        if (note.rows > 0) take(tile, note);
        ring_.release();
      }
      end(turn);
    }
    return turn;
  }

 private:
  using Shared = Selection<kMostHeads>;
  static constexpr int kKeys = Shared::kKeys;
  static constexpr int kStep = kBlockWarps * kKeys;
  static_assert(Shared::kPlaces <= 256, "notes have 8 bits for places");

  /// A tile of selected rows.
  struct Note {
    int place = 0;  ///< in the ring of rows
    int rows = 0;
    bool last = false;  ///< of the item
  };
  // Notes of the tiles on their way, 16 bits each, the newest in the lowest bits.
  __device__ void add_note(const Note& note) {
    notes_ = notes_ << 16 | static_cast<unsigned>(note.place << 8 | note.rows << 1 | note.last);
  }
  __device__ Note oldest_note() const {
    const auto note = static_cast<int>(notes_ >> 16 * ring_.behind() & 0xffffU);
    return {note >> 8, note >> 1 & 0x1f, (note & 1) != 0};
  }

  // Selects rows and starts their copies as long as there is room for them, up to the end of item
  // `known`. Waits for an item's scores only when nothing else is left to do.
  __device__ void fill(int known) {
    while (ring_.has_room()) {
      if (!opened_) {
        if (turn_ == known || c_.item(turn_ + 1).work != Work::values) return;
        if (!stage_following(ring_.empty())) return;
        open();
      }
      if (tail_ - head_ < kTileKeys && begin_ < end_) {
        select_more(known);
      } else {
        issue();
      }
    }
  }

  // Starts copying the first scores of the item after the one that rows are selected from, if its
  // scores are complete. Returns whether they are on their way.
  __device__ bool stage_following(bool waits) {
    if (staged_) return true;
    const Item& item = c_.item(turn_ + 1);
    const unsigned* scored = &c_.w.units[c_.unit(item)].scored;
    const auto items = static_cast<unsigned>(score_items(item.length));
    while (!__all_sync(kAllLanes, load_acquire(scored) == items)) {
      if (!waits) return false;
    }
    stage(item, item.begin + c_.warp * kKeys);
    staged_ = true;
    return true;
  }

  // Turns to the following item.
  __device__ void open() {
    const Item& item = c_.item(++turn_);
    begin_ = item.begin + c_.warp * kKeys;
    end_ = item.end;
    staged_ = false;
    opened_ = true;
    plan(item);
  }

  // Starts copying scores and pages of the keys from `begin` on.
  __device__ void stage(const Item& item, int begin) {
    if (begin >= item.end) return;
    writing_ ^= 1;
    const float* scores = c_.scores(item) + begin;
    const std::int64_t stride = score_stride(item.length);
    constexpr int kPieces = kKeys / 4;
    for (int i = c_.at.lane; i < c_.group * kPieces; i += kWarpThreads) {
      const int head = i / kPieces;
      const int piece = i % kPieces;
      copy_async_16(&shared_.scores[writing_][head][4 * piece], scores + head * stride + 4 * piece);
    }
    const RowFinder rows(c_.a.cache, item.request);
    if (rows.pages != nullptr) {
      const int first = begin >> rows.page_shift;
      const int last = (min(begin + kKeys, item.end) - 1) >> rows.page_shift;
      if (first + c_.at.lane <= last) {
        copy_async_4(&shared_.pages[writing_][c_.at.lane], rows.pages + first + c_.at.lane);
      }
    }
    staged_group_ = ring_.close_group();
  }

  __device__ void plan(const Item& item) {
    const HeadLanes lanes(c_.group, c_.at.lane);
    const ItemSum all = lanes.join_all(c_.w.item_sums + std::int64_t{item.first_sum} * c_.group,
                                       score_items(item.length));
    const bool leads = c_.at.lane < c_.group;
    HeadThreshold threshold = {};
    if (leads)
      threshold = head_threshold(c_.a, item.request, item.kv_head * c_.group + c_.at.lane, all);
    HeadPlan plan = {all.maximum, threshold.threshold, -1};
    unsigned keeps_one =
        __ballot_sync(kAllLanes, leads && threshold.empty && c_.a.empty == EmptyHead::highest);
    keeps_one_ = keeps_one != 0;
    for (; keeps_one != 0; keeps_one &= keeps_one - 1) {
      const int head = __ffs(static_cast<int>(keeps_one)) - 1;
      const float maximum = __shfl_sync(kAllLanes, all.maximum, head);
      const int key = highest_key(item, head, maximum);
      if (c_.at.lane == head) plan.only_key = key;
    }
    if (leads) shared_.plans[c_.at.lane] = plan;
    __syncwarp();
  }

  // The lowest key with the highest score if it lies in this item, else −1.
  __device__ int highest_key(const Item& item, int head, float maximum) const {
    const ItemSum* sums = c_.w.item_sums + std::int64_t{item.first_sum} * c_.group + head;
    const int before = item.begin / item_keys(item.length);
    bool earlier = false;
    for (int i = c_.at.lane; i < before; i += kWarpThreads) {
      earlier = earlier || __ldcg(&sums[i * c_.group].maximum) == maximum;
    }
    if (__any_sync(kAllLanes, earlier)) return -1;
    const float* scores = c_.scores(item) + std::int64_t{head} * score_stride(item.length);
    unsigned lowest = ~0U;
    for (int key = item.begin + c_.at.lane; key < item.end && lowest == ~0U; key += kWarpThreads) {
      if (__ldcg(scores + key) == maximum) lowest = static_cast<unsigned>(key);
    }
    return static_cast<int>(__reduce_min_sync(kAllLanes, lowest));
  }

  // Selects from the keys whose scores are on their way, and sends for the next ones.
  __device__ void select_more(int known) {
    const Item& item = c_.item(turn_);
    ring_.wait_for(staged_group_);
    reading_ ^= 1;
    if (begin_ + kStep < end_) {
      stage(item, begin_ + kStep);
    } else if (turn_ < known && c_.item(turn_ + 1).work == Work::values) {
      stage_following(false);
    }
    if (keeps_one_ || begin_ < c_.a.sink || begin_ + kKeys > item.length - c_.a.recent) {
      select<true>(item);
    } else {
      select<false>(item);
    }
    begin_ += kStep;
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
      const char* side = c_.side(item, c_.a.cache.values);
      ring_.issue(note.rows,
                  [&](int i) { return side + std::int64_t{shared_.offsets[note.place + i]} * 16; });
    } else {
      ring_.issue_nothing();
    }
    head_ += kTileKeys;
    if (!note.last) return;
    tail_ = head_;
    opened_ = false;
    count_kept(item);
  }

  // Appends the rows that any head keeps of the keys whose scores are there. kSpecial: some keys
  // may be kept whatever their score.
  template <bool kSpecial>
  __device__ void select(const Item& item) {
    const int from = reading_;
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
#pragma unroll
      for (int head = 0; head < kMostHeads; ++head) {
        if (head >= c_.group) continue;
        const HeadPlan plan = shared_.plans[head];
        const float score = shared_.scores[from][head][place];
        const bool passes = valid && score > plan.threshold;
        bool kept = passes;
        if constexpr (kSpecial) {
          kept = passes || forced || (valid && key == plan.only_key);
          count(head, kept, passes && !forced);
        } else {
          count(head, kept, kept);
        }
        weights[head] = exp2_fast(score - plan.maximum);
        if (!kept) weights[head] = 0;
        any = any || kept;
      }
      const unsigned keeping = __ballot_sync(kAllLanes, any);
      if (any) {
        const int to = (tail_ + __popc(keeping & ((1U << c_.at.lane) - 1))) % Shared::kPlaces;
        const int page = cache.table == nullptr
                             ? item.request
                             : shared_.pages[from][(key >> cache.page_shift) - first_page];
        shared_.offsets[to] = static_cast<std::uint32_t>(page) * page_units +
                              static_cast<std::uint32_t>(key & slot_mask) * slot_units;
#pragma unroll
        for (int head = 0; head < kMostHeads; ++head) {
          if (head < c_.group) shared_.weights[head][to] = Format<T>::bits(weights[head]);
        }
      }
      tail_ += __popc(keeping);
      facts_.rows += __popc(keeping);
      facts_.rows_eligible +=
          kSpecial ? __popc(__ballot_sync(kAllLanes, any && !forced)) : __popc(keeping);
    }
    __syncwarp();
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

  __device__ void take(const uint4* tile, const Note& note) {
    std::uint32_t weights[kHeadTiles][2];
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = 8 * h + c_.at.g;
      const std::uint16_t* row = shared_.weights[min(head, c_.group - 1)] + note.place;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int first = 8 * half + 2 * c_.at.t;
        std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(row + first);
        if (head >= c_.group || first >= note.rows) pair = 0;
        if (first + 1 >= note.rows) pair &= 0xffffU;
        weights[h][half] = pair;
        const float2 both = Format<T>::unpack(pair);
        mass_[h] += both.x + both.y;
      }
    }
    values_.template add<T>(tile, weights, c_.at);
  }

  __device__ void end(int turn) {
    auto& results = c_.shared.results;
    __syncthreads();  // what was shared before has been read
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      float mass = mass_[h];
      mass += __shfl_xor_sync(kAllLanes, mass, 1);
      mass += __shfl_xor_sync(kAllLanes, mass, 2);
      if (c_.at.t == 0) results.masses[c_.warp][8 * h + c_.at.g] = mass;
    }
    const Item& item = c_.item(turn);
    write_partial<false>(c_, item, turn, values_);
    if (threadIdx.x < c_.group) {
      float mass = 0;
      for (const auto& masses : results.masses) mass += masses[threadIdx.x];
      c_.w.item_masses[std::int64_t{item.number} * c_.group + threadIdx.x] = mass;
    }
  }

  Context& c_;
  Shared& shared_;

  typename Context::Ring ring_;
  std::uint64_t notes_ = 0;
  unsigned staged_group_ = 0;  // of the newest scores

  // Selection.
  int turn_;             // of the item that rows are selected from
  bool opened_ = false;  // rows of that item are left
  bool staged_ = false;  // the following item's first scores are on their way
  int begin_ = 0;        // of the keys that come next
  int end_ = 0;
  int writing_ = 0;         // buffer of the newest scores
  int reading_ = 0;         // buffer of the scores that were selected from
  bool keeps_one_ = false;  // a head may keep a key though nothing passes
  int head_ = 0;            // of the ring of rows: those before it were given out
  int tail_ = 0;            // of the ring of rows
  unsigned kept_[(kMostHeads + 1) / 2] = {};
  unsigned eligible_[(kMostHeads + 1) / 2] = {};
  StepGroupFacts facts_;

  // The item that is at work.
  float mass_[kHeadTiles];
  ValueSums<kDim, kHeadTiles> values_;
};

}  // namespace sift::cuda
