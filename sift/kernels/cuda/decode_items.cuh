#pragma once

#include "sift/kernels/cuda/decode_arguments.h"
#include "sift/kernels/cuda/decode_cuts.h"
#include "sift/kernels/cuda/decode_workspace.h"
#include "sift/kernels/cuda/device_primitives.cuh"
#include "sift/kernels/cuda/method.cuh"

namespace sift::cuda {

/// Floats from one head's scores to the next head's.
__device__ inline int score_stride(int length) {
  return (length + kScoreRowPadding - 1) / kScoreRowPadding * kScoreRowPadding;
}

/// What has to be done with a run of keys of one KV head.
enum class Work : int {
  none,
  scores,      ///< of a sifted request, or estimates of them
  candidates,  ///< exact scores of candidates, after estimates
  values,      ///< of a sifted request
  dense,       ///< scores and values at once
};

/// An item as the block that works on it knows it.
struct Item {
  Work work = Work::none;
  bool records = false;  ///< a dense item whose scores are kept
  int request = 0;
  int kv_head = 0;
  int length = 0;           ///< keys that the request sees
  int begin = 0;            ///< first key
  int end = 0;              ///< one past the last key
  int number = 0;           ///< among the item sums (scores, dense), or items of values
  int partial = 0;          ///< among the partial results (values, dense)
  int first = 0;            ///< item of the unit of its kind (scores, candidates, values); the
                            ///< others follow at distances of kv_heads
  int first_scores = 0;     ///< likewise, item of scores of the unit
  std::int64_t scores = 0;  ///< where the unit's scores begin, in rows
};

/// Kinds of items, as they are counted.
enum ItemKind {
  kScores,
  kValues,
  kDense,
  kShortDense,
  kScoreRows,  ///< no items: the score buffer, in kScoreRowPadding rows
  kItemKinds
};

/// How many items of each kind there are, of a request or before it.
struct ItemCounts {
  int of[kItemKinds] = {};

  __device__ int dense() const { return of[kDense] + of[kShortDense]; }
};

__device__ inline RequestMode mode_of(const DecodeArguments& a, int request) {
  RequestMode mode = RequestMode::dense;
  if (a.method.head_states != nullptr) {
    mode = request_mode(a.method, request);
  } else if (a.modes != nullptr) {
    mode =
        static_cast<RequestMode>(__ldcg(reinterpret_cast<const unsigned char*>(a.modes) + request));
  }
  return a.gated && mode == RequestMode::sift ? RequestMode::dense : mode;
}

/// Whether a step estimates the scores of requests that sift.
__device__ inline bool estimates(const DecodeArguments& a) { return a.shadows.tiles != nullptr; }

/// The counts of one request and KV head.
__device__ inline ItemCounts counts_of(const DecodeArguments& a, int length, RequestMode mode) {
  ItemCounts counts;
  counts.of[kScoreRows] = score_stride(length) / kScoreRowPadding;
  if (mode == RequestMode::sift) {
    counts.of[kScores] = score_cut(length, estimates(a)).items(length);
    counts.of[kValues] = value_cut(length, estimates(a)).items(length);
  } else {
    const KeyCut dense = dense_cut(length);
    counts.of[kDense] = dense.long_items();
    counts.of[kShortDense] = dense.short_items(length);
  }
  return counts;
}

struct RequestEntry {
  ItemCounts before;
  int length;
  RequestMode mode;
};

/// Numbers the items of a step. Lives in shared memory; lengths and modes may change between
/// replays of one graph.
struct ItemTable {
  ItemCounts all;
  RequestEntry requests[kMaximumBatch];

  /// By one whole warp. Of the requests before each only the kinds `kWanted` are counted.
  template <ItemKind... kWanted>
  __device__ void fill(const DecodeArguments& a, int lane) {
    ItemCounts total;
    for (int first = 0; first < a.batch; first += kWarpThreads) {
      const int b = first + lane;
      RequestEntry entry = {};
      ItemCounts counts;
      if (b < a.batch) {
        entry.length = __ldcg(a.lengths + b);
        entry.mode = mode_of(a, b);
        counts = counts_of(a, entry.length, entry.mode);
      }
      ((entry.before.of[kWanted] =
            total.of[kWanted] + sum_before(counts.of[kWanted] * a.kv_heads, lane)),
       ...);
#pragma unroll
      for (int kind = 0; kind < kItemKinds; ++kind) {
        total.of[kind] +=
            static_cast<int>(__reduce_add_sync(kAllLanes, counts.of[kind])) * a.kv_heads;
      }
      if (b < a.batch) requests[b] = entry;
    }
    if (lane == 0) all = total;
    __syncwarp();
  }

  /// Ends the kernel with a trap if there is more work than was planned for.
  __device__ void check(const DecodeArguments& a, const DecodeWorkspace& w) const {
    if ((!a.exact && all.dense() > 0) ||
        max(all.of[kScores], all.of[kValues]) + all.dense() > w.item_capacity ||
        std::int64_t{all.of[kScoreRows]} * kScoreRowPadding > w.score_capacity) {
      __trap();
    }
  }

  /// Exact attention, the short items last.
  __device__ Item dense_item(const DecodeArguments& a, unsigned number) const {
    auto rest = static_cast<int>(number);
    if (rest < all.of[kDense]) return dense_item<kDense>(a, rest);
    rest -= all.of[kDense];
    return rest < all.of[kShortDense] ? dense_item<kShortDense>(a, rest) : Item{};
  }

  /// Scores, values or candidates of requests that sift.
  __device__ Item sifted_item(const DecodeArguments& a, Work work, int number) const {
    return work == Work::scores ? sifted_item<kScores>(a, work, number)
                                : sifted_item<kValues>(a, work, number);
  }
  __device__ int sifted_items(Work work) const {
    return all.of[work == Work::scores ? kScores : kValues];
  }

 private:
  // Sum of the lanes before this one.
  static __device__ int sum_before(int count, int lane) {
    int sum = count;
#pragma unroll
    for (int distance = 1; distance < kWarpThreads; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, sum, distance);
      if (lane >= distance) sum += other;
    }
    return sum - count;
  }

  // KV heads of a request take turns, since they lie side by side in the cache.
  template <ItemKind kKind>
  __device__ Item sifted_item(const DecodeArguments& a, Work work, int number) const {
    const RequestEntry& request = find<kKind>(a, number);
    const int among = number - request.before.of[kKind];
    const int run =
        static_cast<int>((static_cast<float>(among) + 0.5F) / static_cast<float>(a.kv_heads));
    const KeyCut cut = kKind == kScores ? score_cut(request.length, estimates(a))
                                        : value_cut(request.length, estimates(a));
    Item item;
    item.work = work;
    item.kv_head = among - run * a.kv_heads;
    item.begin = cut.begin(run);
    item.end = min(cut.begin(run + 1), request.length);
    item.first = request.before.of[kKind] + item.kv_head;
    item.first_scores = request.before.of[kScores] + item.kv_head;
    item.number = item.partial = number;
    place(request, item);
    return item;
  }

  template <ItemKind kKind>
  __device__ Item dense_item(const DecodeArguments& a, int number) const {
    const RequestEntry& request = find<kKind>(a, number);
    const KeyCut cut = dense_cut(request.length);
    constexpr bool kShort = kKind == kShortDense;
    Item item = place(request, Work::dense, cut, number - request.before.of[kKind],
                      kShort ? cut.short_items(request.length) : cut.long_items(),
                      kShort ? cut.long_items() : 0);
    const int among = request.before.dense() + item.number;
    item.number = all.of[kScores] + among;
    item.partial = all.of[kValues] + among;
    item.records = request.mode == RequestMode::record;
    return item;
  }

  // The request whose items of one kind include `number`: the last one before which no more are.
  template <ItemKind kKind>
  __device__ const RequestEntry& find(const DecodeArguments& a, int number) const {
    int low = 0;
    int high = a.batch;  // its items come after number
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (requests[middle].before.of[kKind] <= number ? low : high) = middle;
    }
    return requests[low];
  }

  // Item `among` of those of one kind of a request, of which each KV head has `each`, the first
  // being its item `first`. Leaves its number among all items of its cut of the request in
  // `number`.
  __device__ Item place(const RequestEntry& request, Work work, const KeyCut& cut, int among,
                        int each, int first) const {
    Item item;
    item.work = work;
    item.kv_head = among / each;
    const int run = first + among - item.kv_head * each;
    item.number = item.kv_head * cut.items(request.length) + run;
    item.begin = cut.begin(run);
    item.end = min(cut.begin(run + 1), request.length);
    place(request, item);
    return item;
  }

  __device__ void place(const RequestEntry& request, Item& item) const {
    item.request = static_cast<int>(&request - requests);
    item.length = request.length;
    item.scores = std::int64_t{request.before.of[kScoreRows]} * kScoreRowPadding +
                  std::int64_t{item.kv_head} * score_stride(item.length);
  }
};

}  // namespace sift::cuda
