#pragma once

#include "sift/kernels/cuda/decode_plan.cuh"
#include "sift/kernels/cuda/decode_tiles.cuh"

namespace sift::cuda {

/// Tiles of selected rows that a warp has on their way: as many as leave room for the blocks of a
/// multiprocessor.
template <int kDim>
constexpr int gather_stages() {
  return kDim > 64 ? 2 : 3;
}

/// Rows that a warp has selected, a ring in shared memory.
template <int kMostHeads, Selects kSelects>
struct SelectedRows {
  static constexpr int kLaneKeys = kMostHeads > 8 ? 2 : 4;
  /// Keys that a warp selects from at a time.
  static constexpr int kChunk = kLaneKeys * kWarpThreads;
  static constexpr int kPlaces = 2 * kChunk;
  /// Tiles of rows that were taken and are still there, whatever is selected.
  static constexpr int kTilesKept = (kPlaces - kChunk - kTileKeys + 1) / kTileKeys;
  static constexpr bool kCandidates = kSelects == Selects::candidates;

  alignas(16) HeadPlan plans[kMostHeads];
  int only_keys[kMostHeads];  ///< wanted by an empty head though they do not pass, or −1
  alignas(8) std::uint32_t offsets[kPlaces];
  /// Under each head, −∞ where it does not want the row.
  alignas(16) float scores[kCandidates ? 1 : kPlaces][kMostHeads];
  std::int32_t keys[kCandidates ? kPlaces : 1];
  std::uint16_t heads[kCandidates ? kPlaces : 1];  ///< a bit for each whose candidate the key is
};

/// Counts of up to 255 keys a lane, of each head a byte: items have at most 4096 keys, a lane 32.
template <int kMostHeads>
class HeadCounts {
 public:
  static constexpr int kWords = kMostHeads / 4;

  /// `heads`: a bit each.
  __device__ void add(unsigned heads) {
#pragma unroll
    for (int i = 0; i < kWords; ++i)
      words_[i] += (heads >> 4 * i & 0xfU) * 0x00204081U & 0x01010101U;
  }
  /// Sums over the warp; lane `head` gets that of its head.
  __device__ int sum_of_lane(int lane) const {
    unsigned mine = 0;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const unsigned even = __reduce_add_sync(kAllLanes, words_[i] & 0x00ff00ffU);
      const unsigned odd = __reduce_add_sync(kAllLanes, words_[i] >> 8 & 0x00ff00ffU);
      if (lane / 4 == i) mine = (lane % 2 == 0 ? even : odd) >> (lane % 4 / 2 * 16) & 0xffffU;
    }
    return static_cast<int>(mine);
  }

 private:
  unsigned words_[kWords] = {};
};

/// Selects, chunk by chunk, the rows that one warp reads of its part of an item: those that any
/// head wants. Scores of the next chunk are on their way while rows are read.
template <int kMostHeads, Selects kSelects>
class RowSelector {
 public:
  using Selected = SelectedRows<kMostHeads, kSelects>;
  static_assert(Selected::kTilesKept >= 3, "more than gather_stages()");
  static constexpr bool kListed = kSelects == Selects::candidate_keys;
  static constexpr bool kCandidates = kSelects == Selects::candidates;
  static constexpr int kLaneKeys = Selected::kLaneKeys;

  /// `part`: of the item that warp `warp` has. Entries are keys, or places of its candidates.
  __device__ RowSelector(const DecodeArguments& a, const DecodeWorkspace& w, Selected& selected,
                         const Item& item, int warp, WarpPart part, int lane)
      : a_(a),
        selected_(selected),
        rows_(a.cache, item.request),
        group_(w.group),
        lane_(lane),
        length_(item.length),
        stride_(score_stride(item.length)),
        scores_(w.scores + item.scores * group_),
        listed_(w.candidate_rows + item.scores),
        next_(part.begin),
        end_(part.end) {
    load();
    plan(w, item, warp);
  }

  /// Selects until 16 rows wait to be taken, or what is left does, filled up with rows that stand
  /// there already and that no head wants. Whether there are any.
  __device__ bool fill() {
    while (tail_ - head_ < kTileKeys && next_ < end_) select();
    if (tail_ == head_) return false;
    if (tail_ - head_ < kTileKeys) fill_up();
    return true;
  }
  /// The place of the next 16 rows, which are taken.
  __device__ int take() {
    const int place = head_ % Selected::kPlaces;
    head_ += kTileKeys;
    return place;
  }
  /// The place of the 16 rows that were taken `behind` times ago, and how many of them some head
  /// wants. They stay for kTilesKept times.
  __device__ int place(int behind) const {
    return (head_ - behind * kTileKeys) % Selected::kPlaces;
  }
  __device__ int count(int behind) const {
    return min(kTileKeys, rows_seen_ - (head_ - behind * kTileKeys));
  }
  /// Rows, all in all.
  __device__ int rows() const { return rows_seen_; }
  /// Rows that were selected though no score passed.
  __device__ int forced_rows() const { return forced_rows_; }
  /// Whether no key passes for some head, whose highest one was looked for. All warps that work on
  /// one unit say the same.
  __device__ bool any_empty() const { return any_empty_; }
  /// Keys of head `lane` that passed, and that were selected though they did not.
  __device__ int passing() const { return passing_.sum_of_lane(lane_); }
  __device__ int forced() const { return is_special_ ? forced_.sum_of_lane(lane_) : 0; }
  /// Sum of the estimates of this lane's keys that are no candidates of a head.
  __device__ float others(int head) const { return others_[head]; }

  /// What estimates of keys that are no candidates are summed relative to: none is greater.
  static __device__ float others_reference(const HeadPlan& plan) {
    return finite_reference(fminf(plan.maximum, plan.threshold));
  }

 private:
  __device__ void select() {
    __syncwarp();  // what was taken has been read
    if (is_special_ && (kListed || keeps_one_ || next_ < a_.sink ||
                        next_ + Selected::kChunk > length_ - a_.recent)) {
      select_from<true>();
    } else {
      select_from<false>();
    }
    rows_seen_ = tail_;
    next_ += Selected::kChunk;
    if (next_ < end_) load();
    __syncwarp();
  }

  __device__ void fill_up() {
    const int place = (head_ + lane_) % Selected::kPlaces;
    if (head_ + lane_ >= tail_ && lane_ < kTileKeys) {
      selected_.offsets[place] = selected_.offsets[head_ % Selected::kPlaces];
      if constexpr (kCandidates) {
        selected_.heads[place] = 0;
      } else {
        for (float& score : selected_.scores[place]) score = -__builtin_huge_valf();
      }
    }
    tail_ = head_ + kTileKeys;
    __syncwarp();
  }

  __device__ void plan(const DecodeWorkspace& w, const Item& item, int warp) {
    const HeadPlan plan = plan_heads<kSelects>(a_, w, item, lane_);
    if (lane_ < group_) {
      selected_.plans[lane_] = plan;
      selected_.only_keys[lane_] = -1;
      if (!kCandidates && warp == 0 && item.begin == 0) {
        w.plans[item.request * a_.heads + item.kv_head * group_ + lane_] = plan;
      }
    }
    is_special_ = a_.sink > 0 || a_.recent > 0;
    if (kCandidates || a_.empty == EmptyHead::highest) find_only_keys(plan, w, item, warp);
    __syncwarp();
  }

  // The keys that empty heads want all the same, where this warp has them.
  __device__ void find_only_keys(const HeadPlan& plan, const DecodeWorkspace& w, const Item& item,
                                 int warp) {
    unsigned empty = __ballot_sync(kAllLanes, plan.empty != 0);
    any_empty_ = empty != 0;
    for (; empty != 0; empty &= empty - 1) {
      const int head = __ffs(static_cast<int>(empty)) - 1;
      const float maximum = __shfl_sync(kAllLanes, plan.maximum, head);
      int key = -1;
      if constexpr (kListed) {
        key = highest_candidate(a_, w, item, warp, head, maximum, lane_);
      } else {
        key = highest_key(a_, w, item, next_, end_, head, maximum, lane_);
      }
      if (key < 0) continue;
      if (lane_ == head) selected_.only_keys[head] = key;
      keeps_one_ = is_special_ = true;
    }
  }

  __device__ int first_entry() const { return next_ + kLaneKeys * lane_; }

  // Starts loading the chunk from next_ on.
  __device__ void load() {
    const int first = first_entry();
#pragma unroll
    for (int head = 0; head < kMostHeads; ++head) {
      if (head >= group_ || first >= end_) continue;
      load_scores(chunk_[head], scores_ + std::int64_t{head} * stride_ + first);
    }
    if (first >= end_) return;
    if constexpr (kListed) {
#pragma unroll
      for (int j = 0; j < kLaneKeys; j += 2) {
        const uint4 two = __ldcg(reinterpret_cast<const uint4*>(listed_ + first + j));
        chunk_rows_[j] = {two.x, static_cast<std::int32_t>(two.y)};
        chunk_rows_[j + 1] = {two.z, static_cast<std::int32_t>(two.w)};
      }
    } else {
      page_ = rows_.page(first);
    }
  }
  static __device__ void load_scores(float (&to)[kLaneKeys], const float* from) {
    // Values are the last to need exact scores.
    const std::uint64_t policy = kCandidates ? keep_policy() : read_once_policy();
    if constexpr (kLaneKeys == 4) {
      const float4 four = load_4(from, policy);
      to[0] = four.x;
      to[1] = four.y;
      to[2] = four.z;
      to[3] = four.w;
    } else {
      const float2 two = load_2(from, policy);
      to[0] = two.x;
      to[1] = two.y;
    }
  }

  __device__ int key(int j) const {
    if constexpr (kListed) return chunk_rows_[j].key;
    return first_entry() + j;
  }
  __device__ std::uint32_t offset(int j) const {
    if constexpr (kListed) return chunk_rows_[j].offset;
    return rows_.offset(a_.cache, page_, first_entry() + j);
  }

  // kSpecial: some keys may be selected whatever their scores.
  template <bool kSpecial>
  __device__ void select_from() {
    const int left = end_ - first_entry();
    unsigned heads[kLaneKeys] = {};  // that want each key
#pragma unroll
    for (int head = 0; head < kMostHeads; ++head) {
      if (head >= group_) continue;
      const float threshold = selected_.plans[head].threshold;
#pragma unroll
      for (int j = 0; j < kLaneKeys; ++j) {
        if (chunk_[head][j] > threshold) heads[j] |= 1U << head;
      }
    }
#pragma unroll
    for (int j = 0; j < kLaneKeys; ++j) {
      if (j >= left) heads[j] = 0;
      const unsigned passing = heads[j];
      bool is_forced = false;
      if constexpr (kSpecial) {
        is_forced = j < left && (key(j) < a_.sink || key(j) >= length_ - a_.recent);
        heads[j] |= j < left ? unasked(key(j), is_forced) : 0;
        forced_.add(is_forced ? heads[j] : heads[j] & ~passing);
      }
      passing_.add(is_forced ? 0 : passing);
      const unsigned wanting = __ballot_sync(kAllLanes, heads[j] != 0);
      if (heads[j] != 0) {
        const int to = (tail_ + __popc(wanting & ((1U << lane_) - 1))) % Selected::kPlaces;
        selected_.offsets[to] = offset(j);
        if constexpr (kCandidates) {
          selected_.keys[to] = key(j);
          selected_.heads[to] = static_cast<std::uint16_t>(heads[j]);
        } else {
          keep_scores(heads[j], j, to);
        }
      }
      tail_ += __popc(wanting);
      if constexpr (kSpecial) forced_rows_ += __popc(__ballot_sync(kAllLanes, is_forced));
    }
    if constexpr (kCandidates) add_others(heads, left);
  }

  // Heads that a key is selected for though its score does not pass.
  __device__ unsigned unasked(int key, bool is_forced) const {
    if (is_forced) return (1U << group_) - 1;
    unsigned heads = 0;
    if (keeps_one_) {
      for (int head = 0; head < group_; ++head) {
        if (key == selected_.only_keys[head]) heads |= 1U << head;
      }
    }
    return heads;
  }

  __device__ void keep_scores(unsigned heads, int j, int to) {
    const auto kept = [&](int head) {
      return (heads >> head & 1U) != 0 ? chunk_[head][j] : -__builtin_huge_valf();
    };
#pragma unroll
    for (int head = 0; head < kMostHeads; head += 4) {
      *reinterpret_cast<float4*>(&selected_.scores[to][head]) = {kept(head), kept(head + 1),
                                                                 kept(head + 2), kept(head + 3)};
    }
  }

  __device__ void add_others(const unsigned (&heads)[kLaneKeys], int left) {
#pragma unroll
    for (int head = 0; head < kMostHeads; ++head) {
      if (head >= group_) continue;
      const float reference = others_reference(selected_.plans[head]);
#pragma unroll
      for (int j = 0; j < kLaneKeys; ++j) {
        const float other = exp2_fast(chunk_[head][j] - reference);
        if (j < left && (heads[j] >> head & 1U) == 0) others_[head] += other;
      }
    }
  }

  const DecodeArguments& a_;
  Selected& selected_;
  RowFinder rows_;
  int group_;
  int lane_;
  int length_;
  int stride_;
  const float* scores_;
  const CandidateRow* listed_;
  int next_;
  int end_;
  int head_ = 0;  // of the ring: those before it were taken
  int tail_ = 0;
  int rows_seen_ = 0;
  int forced_rows_ = 0;
  bool any_empty_ = false;
  bool keeps_one_ = false;   // some head wants a key that does not pass
  bool is_special_ = false;  // keys may be selected whatever their scores
  HeadCounts<kMostHeads> passing_;
  HeadCounts<kMostHeads> forced_;
  float others_[kCandidates ? kMostHeads : 1] = {};

  // The chunk that comes next.
  float chunk_[kMostHeads][kLaneKeys] = {};
  CandidateRow chunk_rows_[kListed ? kLaneKeys : 1];
  int page_ = 0;
};

}  // namespace sift::cuda
