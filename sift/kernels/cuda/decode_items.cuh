#pragma once

#include "sift/kernels/cuda/decode_arguments.h"
#include "sift/kernels/cuda/decode_workspace.h"
#include "sift/kernels/cuda/device_primitives.cuh"
#include "sift/kernels/cuda/method.cuh"

namespace sift::cuda {

/// Keys of one item of scores or of dense attention, of a request that sees `length` keys: more for
/// longer contexts, so that few results have to be put together at the end. Depends on the length
/// alone, not on how work is dealt, so that sums do too.
__device__ inline int item_keys(int length) {
  return length <= 16384    ? kLeastItemKeys
         : length <= 32768  ? 512
         : length <= 65536  ? 1024
         : length <= 131072 ? 2048
                            : 4096;
}

/// Items of scores that one item of values spans.
inline constexpr int kValueSpan = 2;

__device__ inline int items_of(int length, int keys) { return (length + keys - 1) / keys; }
__device__ inline int score_items(int length) { return items_of(length, item_keys(length)); }
__device__ inline int value_items(int length) {
  return items_of(length, kValueSpan * item_keys(length));
}

/// Floats from one head's scores to the next head's.
__device__ inline int score_stride(int length) {
  return (length + kScoreRowPadding - 1) / kScoreRowPadding * kScoreRowPadding;
}

/// What has to be done with a run of keys of one KV head.
enum class Work : int {
  none,
  scores,  ///< of a sifted request
  values,  ///< of a sifted request
  dense,   ///< both, at once
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
  int number = 0;           ///< among the item sums (scores, dense) or masses (values)
  int partial = 0;          ///< among the partial results (values, dense)
  int first_sum = 0;        ///< of the unit, among the item sums (values)
  std::int64_t scores = 0;  ///< where the unit's scores begin, in rows
};

/// Where the items of one request begin.
struct RequestPlace {
  int scores = 0;  ///< among those of scores
  int values = 0;  ///< among those of values
  int dense = 0;   ///< among the dense ones
  int rows = 0;    ///< of the score buffer, in kScoreRowPadding rows
};

__device__ inline RequestMode mode_of(const DecodeArguments& a, int request) {
  if (a.method.head_states != nullptr) return request_mode(a.method, request);
  return a.modes == nullptr ? RequestMode::dense : a.modes[request];
}

/// The counts of one request and KV head.
__device__ inline RequestPlace counts_of(int length, RequestMode mode) {
  const bool sifts = mode == RequestMode::sift;
  return {sifts ? score_items(length) : 0, sifts ? value_items(length) : 0,
          sifts ? 0 : score_items(length), score_stride(length) / kScoreRowPadding};
}

struct RequestEntry {
  RequestPlace begin;
  int length;
  RequestMode mode;
};

/// Numbers the items of a step. Lives in shared memory; lengths and modes may change between
/// replays of one graph.
///
/// Claims are dealt in this order: items of scores, long enough ahead that the scores of a unit are
/// complete when its values are claimed; then rounds of values and scores in turns, so that scores,
/// which stream, fill the memory's time while values wait for their selection, and few scores are
/// kept waiting; then what is left of scores and dense items; then what is left of values. An item
/// of values waits only for scores that were claimed before it, by blocks that run, so waiting ends
/// however many blocks the device runs at a time.
struct ItemTable {
  RequestPlace all;  ///< how many items there are
  int ahead;         ///< claims before the first values
  int round;         ///< scores of one round; kValueSpan times as many as values
  int rounds;
  RequestEntry requests[kMaximumBatch];

  /// By one whole warp. `blocks`: how many work at a time.
  __device__ void fill(const DecodeArguments& a, int blocks, int lane) {
    int most = 0;
    RequestPlace total;
    for (int first = 0; first < a.batch; first += kWarpThreads) {
      const int b = first + lane;
      RequestEntry entry = {};
      RequestPlace counts;
      if (b < a.batch) {
        entry.length = a.lengths[b];
        entry.mode = mode_of(a, b);
        counts = counts_of(entry.length, entry.mode);
        most = max(most, counts.scores);
      }
      const auto place = [&](int count, int& sum) {
        return sum_before(count * a.kv_heads, lane, sum);
      };
      entry.begin = {place(counts.scores, total.scores), place(counts.values, total.values),
                     place(counts.dense, total.dense), place(counts.rows, total.rows)};
      if (b < a.batch) requests[b] = entry;
    }
    most = static_cast<int>(__reduce_max_sync(kAllLanes, static_cast<unsigned>(most)));
    if (lane == 0) {
      all = total;
      round = kValueSpan;
      constexpr int kAheadOfABlock = 8;
      ahead = min(most + kAheadOfABlock * blocks, total.scores + total.dense);
      rounds =
          min((total.scores + total.dense - ahead) / round, total.values / (round / kValueSpan));
    }
    __syncwarp();
  }

  __device__ Item claim(const DecodeArguments& a, int number) const {
    if (number < ahead) return scoring(a, number);
    int rest = number - ahead;
    const int round_values = round / kValueSpan;
    const int passed = min(rest / (round + round_values), rounds);
    rest -= passed * (round + round_values);
    int scored = ahead + passed * round;
    const int valued = passed * round_values;
    if (passed < rounds) {
      if (rest < round_values) return value_item(a, valued + rest);
      return scoring(a, scored + rest - round_values);
    }
    scored += rest;
    if (scored < all.scores + all.dense) return scoring(a, scored);
    const int value = valued + scored - all.scores - all.dense;
    return value < all.values ? value_item(a, value) : Item{};
  }

 private:
  // Sum of the lanes before this one and of `total`, to which all lanes are added.
  static __device__ int sum_before(int count, int lane, int& total) {
    int sum = count;
    for (int distance = 1; distance < kWarpThreads; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, sum, distance);
      if (lane >= distance) sum += other;
    }
    const int mine = total + sum - count;
    total += __shfl_sync(kAllLanes, sum, kWarpThreads - 1);
    return mine;
  }

  // The request whose items of one kind include `number`.
  template <int RequestPlace::*kKind>
  __device__ int find(const DecodeArguments& a, int number) const {
    int low = 0;
    int high = a.batch;  // its items come after number
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (requests[middle].begin.*kKind <= number ? low : high) = middle;
    }
    return low;
  }

  __device__ Item scoring(const DecodeArguments& a, int number) const {
    const bool sifts = number < all.scores;
    Item item;
    item.work = sifts ? Work::scores : Work::dense;
    item.number = number;
    const int among = sifts ? number : number - all.scores;
    item.request =
        sifts ? find<&RequestPlace::scores>(a, among) : find<&RequestPlace::dense>(a, among);
    item.partial = all.values + among;
    item.records = !sifts && requests[item.request].mode == RequestMode::record;
    const RequestEntry& request = requests[item.request];
    place(among - (sifts ? request.begin.scores : request.begin.dense), item_keys(request.length),
          item);
    return item;
  }

  __device__ Item value_item(const DecodeArguments& a, int number) const {
    Item item;
    item.work = Work::values;
    item.number = number;
    item.partial = number;
    item.request = find<&RequestPlace::values>(a, number);
    const RequestEntry& request = requests[item.request];
    place(number - request.begin.values, kValueSpan * item_keys(request.length), item);
    item.first_sum = request.begin.scores + item.kv_head * score_items(item.length);
    return item;
  }

  // Fills in what follows from the item's place among those of its request.
  __device__ void place(int among, int keys, Item& item) const {
    item.length = requests[item.request].length;
    const int items = items_of(item.length, keys);
    item.kv_head = among / items;
    item.begin = (among - item.kv_head * items) * keys;
    item.end = min(item.begin + keys, item.length);
    item.scores = std::int64_t{requests[item.request].begin.rows} * kScoreRowPadding +
                  std::int64_t{item.kv_head} * score_stride(item.length);
  }
};

}  // namespace sift::cuda
