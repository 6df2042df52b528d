#pragma once

#include "sift/kernels/cuda/bin_search.cuh"
#include "sift/kernels/cuda/block_team.cuh"
#include "sift/kernels/cuda/score_bins.cuh"
#include "sift/kernels/cuda/score_rows.cuh"

namespace sift::cuda {

/// Most heads whose scores lie beside each other.
inline constexpr int kMostSelections = 16;

/// Two neighbours of a sorted list.
struct OrderStatistics {
  float lower = 0;  ///< number `rank`, from 0
  float upper = 0;  ///< number rank + 1; NaN where there is none
};

/// What is known of a wanted value: it is number `rank`, from 0, of the `count` scores with images
/// in `range`.
struct alignas(16) Bracket {
  ImageRange range;
  std::uint32_t rank = 0;
  std::uint32_t count = 0;

  __device__ bool one_value() const { return range.span == 0; }
  /// Whether the wanted value's upper neighbour lies above the range.
  __device__ bool is_last() const { return rank + 1 == count; }
};

/// What a block keeps in shared memory, beside kWords words per head.
struct SelectionShared {
  Bracket brackets[kMostSelections];
  std::uint32_t above[kMostSelections];   ///< the smallest image above the bracket, where needed
  std::uint32_t listed[kMostSelections];  ///< scores in the head's list
  std::uint32_t refused = 0;              ///< bit h: head h has a score of NaN or +∞
};

/// Selects two neighbouring order statistics of each of up to kMostSelections heads, exactly. The
/// blocks of a team share the rows. A first pass counts scores in bins below the log-sum-exp; the
/// few in the wanted bin are listed in a second pass, and one warp finds the wanted ones among
/// them, bit by bit. Where a bin holds too many to list, further passes cut it up first. Counting
/// does not depend on order, so results do not depend on the number of blocks.
template <int kWords>
class OrderSelection {
 public:
  /// `words`: [group, kWords] in shared memory, at the same place in all blocks of the team.
  __device__ OrderSelection(const BlockTeam& team, SelectionShared& shared, std::uint32_t* words,
                            const ScoreRows& rows, int group)
      : team_(team), shared_(shared), words_(words), rows_(rows), group_(group) {}

  /// Selects order statistics `rank` and rank + 1 of all heads; log_sum_exp [group], base 2.
  /// Called by all threads of all blocks.
  __device__ void run(const float* log_sum_exp, std::uint32_t rank) {
    begin();
    clear();
    __syncthreads();
    count_coarsely(log_sum_exp);
    team_.sync();
    if (owns_head()) {
      const Bracket all{{}, rank, 0};
      narrow(all, CoarseBins<kWords>(log_sum_exp[own_head()]));
    }
    team_.sync();
    while (!all_listable()) narrow_finely();
    list();
    team_.sync();
    if (owns_head()) gather();
    team_.sync();
  }

  /// Every head belongs to one warp of one block, which ends up with its result.
  __device__ int own_head() const { return warp() * team_.size() + team_.rank(); }
  __device__ bool owns_head() const { return own_head() < group_; }

  /// The result of the warp's own head, after run().
  __device__ OrderStatistics own_statistics() const {
    const Bracket& wanted = bracket(own_head());
    std::uint32_t lower = wanted.range.low;
    std::uint32_t upper = wanted.is_last() ? gathered_.above : lower;
    if (!wanted.one_value()) {
      lower = listed_image(wanted);
      upper = min(listed_image_after(lower, wanted.rank), gathered_.above);
    }
    return {score_of(lower), score_of(upper)};
  }

  /// Whether the warp's own head has a score of NaN or +∞, after run().
  __device__ bool own_refused() const { return (gathered_.refused >> own_head() & 1U) != 0; }

 private:
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarpThreads; }
  __device__ static std::uint32_t lane() { return threadIdx.x % kWarpThreads; }
  __device__ const Bracket& bracket(int head) const { return shared_.brackets[head]; }
  __device__ Count* words(int head) const { return words_ + head * kWords; }

  __device__ static bool listable(const Bracket& bracket) {
    return bracket.count <= kWords || bracket.one_value();
  }
  __device__ bool all_listable() const {
    bool all = true;
    for (int head = 0; head < group_; ++head) all = all && listable(bracket(head));
    return all;
  }

  __device__ void begin() {
    if (threadIdx.x < kMostSelections) {
      shared_.above[threadIdx.x] = 0xffffffffU;
      shared_.listed[threadIdx.x] = 0;
    }
    if (threadIdx.x == 0) shared_.refused = 0;
  }

  __device__ void clear() {
    auto* four = reinterpret_cast<uint4*>(words_);
    for (int i = static_cast<int>(threadIdx.x); i < group_ * kWords / 4; i += kSelectThreads) {
      four[i] = uint4{0, 0, 0, 0};
    }
  }

  __device__ void count_coarsely(const float* log_sum_exp) {
    CoarseBins<kWords> bins[4];
    Count* counts[4];
    bool refused[4] = {};
#pragma unroll
    for (int place = 0; place < 4; ++place) {
      bins[place] = CoarseBins<kWords>(log_sum_exp[rows_.head(place)]);
      counts[place] = words(rows_.head(place));
    }
    rows_.for_each([&](int place, float score) {
      atomicAdd(counts[place] + bins[place].bin(score), 1U);
      refused[place] |= !(score < INFINITY);
    });
#pragma unroll
    for (int place = 0; place < 4; ++place) {
      if (refused[place]) atomicOr(&shared_.refused, 1U << rows_.head(place));
    }
  }

  // Cuts up the brackets that hold too many scores. Every pass makes them at least a thousand times
  // narrower.
  __device__ void narrow_finely() {
    clear();
    __syncthreads();
    count_finely();
    team_.sync();
    if (owns_head() && !listable(bracket(own_head()))) {
      narrow(bracket(own_head()), FineBins<kWords>(bracket(own_head()).range));
    }
    team_.sync();
  }

  __device__ void count_finely() {
    FineBins<kWords> bins[4];
    Count* counts[4];
#pragma unroll
    for (int place = 0; place < 4; ++place) {
      const Bracket& wanted = bracket(rows_.head(place));
      bins[place] = FineBins<kWords>(wanted.range);
      counts[place] = listable(wanted) ? nullptr : words(rows_.head(place));
    }
    rows_.for_each([&](int place, float score) {
      const std::uint32_t image = image_of(score);
      if (counts[place] == nullptr || !bins[place].covers(image)) return;
      atomicAdd(counts[place] + bins[place].bin(image), 1U);
    });
  }

  // Narrows the bracket of the warp's own head to one of the bins in which its scores were counted,
  // and tells all blocks.
  template <class Bins>
  __device__ void narrow(const Bracket& wanted, const Bins& bins) {
    const Bin bin = BinSearch<kWords>(team_, words(own_head())).find(wanted.rank);
    const Bracket narrowed{bins.range(bin.index), wanted.rank - bin.before, bin.count};
    __syncwarp();
    if (lane() < static_cast<std::uint32_t>(team_.size())) {
      *team_.at(&shared_.brackets[own_head()], static_cast<int>(lane())) = narrowed;
    }
  }

  // Lists the scores of this block that lie in the brackets, over the counts, which are done with.
  __device__ void list() {
    ImageRange ranges[4];
    std::uint32_t above[4];
#pragma unroll
    for (int place = 0; place < 4; ++place) {
      ranges[place] = bracket(rows_.head(place)).range;
      above[place] = 0xffffffffU;
    }
    rows_.for_each([&](int place, float score) {
      const std::uint32_t image = image_of(score);
      const ImageRange& range = ranges[place];
      if (image - range.low <= range.span) {
        if (range.span != 0) append(rows_.head(place), image);
      } else if (image > range.low) {
        above[place] = min(above[place], image);
      }
    });
#pragma unroll
    for (int place = 0; place < 4; ++place) {
      const int head = rows_.head(place);
      if (bracket(head).is_last()) atomicMin(&shared_.above[head], above[place]);
    }
  }

  __device__ void append(int head, std::uint32_t image) {
    const Count place = atomicAdd(&shared_.listed[head], 1U);
    if (place < kWords) words(head)[place] = image;
  }

  // Appends what the other blocks found for the warp's own head.
  __device__ void gather() {
    const int head = own_head();
    Count listed = shared_.listed[head];
    std::uint32_t above = shared_.above[head];
    std::uint32_t refused = shared_.refused;
    __syncwarp();
    for (int block = 0; block < team_.size(); ++block) {
      if (block == team_.rank()) continue;
      const Count more = *team_.at(&shared_.listed[head], block);
      const std::uint32_t* from = team_.at(words(head), block);
      for (Count i = lane(); i < more && listed + i < kWords; i += kWarpThreads) {
        words(head)[listed + i] = from[i];
      }
      listed += more;
      above = min(above, *team_.at(&shared_.above[head], block));
      refused |= *team_.at(&shared_.refused, block);
    }
    gathered_ = {min(listed, Count{kWords}), above, refused};
  }

  // The wanted image among those listed, which one of its bits after the other is found for:
  // the greatest image that no more than `rank` images are smaller than.
  __device__ std::uint32_t listed_image(const Bracket& wanted) const {
    const std::uint32_t* images = words(own_head());
    const std::uint32_t differing = wanted.range.low ^ (wanted.range.low + wanted.range.span);
    const int bits = 32 - __clz(static_cast<int>(differing));
    std::uint32_t image = bits == 32 ? 0 : wanted.range.low >> bits << bits;
    for (int bit = bits - 1; bit >= 0; --bit) {
      const std::uint32_t trial = image | 1U << bit;
      Count smaller = 0;
      for (Count i = lane(); i < gathered_.listed; i += kWarpThreads) smaller += images[i] < trial;
      if (__reduce_add_sync(kAllLanes, smaller) <= wanted.rank) image = trial;
    }
    return image;
  }

  // The image number rank + 1 among those listed, given number `rank`; the greatest number if there
  // is none.
  __device__ std::uint32_t listed_image_after(std::uint32_t image, Count rank) const {
    const std::uint32_t* images = words(own_head());
    Count not_greater = 0;
    std::uint32_t next = 0xffffffffU;
    for (Count i = lane(); i < gathered_.listed; i += kWarpThreads) {
      not_greater += images[i] <= image;
      if (images[i] > image) next = min(next, images[i]);
    }
    if (__reduce_add_sync(kAllLanes, not_greater) > rank + 1) return image;
    return __reduce_min_sync(kAllLanes, next);
  }

  BlockTeam team_;
  SelectionShared& shared_;
  std::uint32_t* words_;
  const ScoreRows& rows_;
  int group_;
  struct {
    Count listed;
    std::uint32_t above, refused;
  } gathered_{};
};

}  // namespace sift::cuda
