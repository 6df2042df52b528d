#pragma once

#include "sift/kernels/cuda/decode_arguments.h"
#include "sift/kernels/cuda/decode_workspace.h"
#include "sift/kernels/cuda/device_primitives.cuh"

namespace sift::cuda {

/// Chunks of one work item, of a request with this many of them: more for longer contexts, so that
/// few results have to be put together at the end. Depends on the number of keys alone, not on how
/// work is dealt, so that sums do too.
__device__ inline int chunks_per_item(int chunks) {
  return chunks <= 16 ? 1 : chunks <= 64 ? 2 : chunks <= 256 ? 4 : 8;
}

/// What has to be done with a run of chunks of one KV head.
enum class Work : int {
  scores,  ///< of a sifted request
  values,  ///< of a sifted request
  dense,   ///< both, at once
  none,
};

struct Claim {
  Work work = Work::none;
  int item = 0;  ///< number of the (request, KV head, run of chunks)
};

struct ItemPlace {
  int request = 0;
  int kv_head = 0;
  int items = 0;        ///< of this request and KV head
  int first_item = 0;   ///< of this request and KV head
  int first_chunk = 0;  ///< the same among the chunks of all, which the scores are kept by
};

/// Numbers the items of a launch: those of sifted requests first, each request's by KV head and
/// place. Lives in shared memory; lengths may change between launches of one graph.
///
/// Claims are dealt in the order scores 0 … lag−1, then values and scores (or dense items) in
/// turns, so that the scores of a head are usually complete when its values are claimed. The lag is
/// longer than any head's items, so a values item waits only for scores claimed before it, and
/// waiting ends.
struct ItemTable {
  int* sift_begin;   ///< [batch + 1]
  int* dense_begin;  ///< [batch + 1], from sift_items on
  int* chunk_begin;  ///< [batch + 1]
  int* lengths;      ///< [batch]
  int batch = 0;
  int kv_heads = 0;
  int sift_items = 0;
  int items = 0;
  int chunks = 0;
  int lag = 0;

  static __device__ int chunks_of(int length) { return (length + kChunkKeys - 1) / kChunkKeys; }
  static __device__ int items_of(int length) {
    const int chunks = chunks_of(length);
    const int run = chunks_per_item(chunks);
    return (chunks + run - 1) / run;
  }

  /// By one whole warp. `in_flight`: items that are at work at a time.
  __device__ void fill(const DecodeArguments& a, int in_flight, int lane) {
    batch = a.batch;
    kv_heads = a.kv_heads;
    int most = 0;
    for (int b = lane; b < batch; b += kWarpThreads) {
      lengths[b] = a.lengths[b];
      most = max(most, items_of(lengths[b]));
    }
    __syncwarp();
    lag = in_flight + static_cast<int>(__reduce_max_sync(kAllLanes, static_cast<unsigned>(most)));
    const auto sifts = [&](int b) { return a.modes != nullptr && a.modes[b] == RequestMode::sift; };
    sift_items = scan(
        lane, 0, [&](int b) { return sifts(b) ? items_of(lengths[b]) : 0; }, sift_begin);
    items = scan(
        lane, sift_items, [&](int b) { return sifts(b) ? 0 : items_of(lengths[b]); }, dense_begin);
    chunks = scan(
        lane, 0, [&](int b) { return chunks_of(lengths[b]); }, chunk_begin);
    __syncwarp();
  }

  __device__ Claim claim(int number) const {
    const int ahead = min(lag, items);
    if (number < ahead) return {scoring(number), number};
    const int rest = number - ahead;
    const int pairs = min(items - ahead, sift_items);
    if (rest < 2 * pairs) {
      if (rest % 2 == 0) return {Work::values, rest / 2};
      return {scoring(ahead + rest / 2), ahead + rest / 2};
    }
    const int last = rest - pairs;
    if (last < sift_items) return {Work::values, last};
    const int item = ahead + rest - sift_items;
    if (item < items) return {scoring(item), item};
    return {Work::none, 0};
  }

  __device__ ItemPlace place(int item) const {
    const int* begin = item < sift_items ? sift_begin : dense_begin;
    int low = 0;
    int high = batch;  // begin[low] <= item < begin[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (begin[middle] <= item) {
        low = middle;
      } else {
        high = middle;
      }
    }
    ItemPlace place;
    place.request = low;
    place.items = items_of(lengths[low]);
    place.kv_head = (item - begin[low]) / place.items;
    place.first_item = begin[low] + place.kv_head * place.items;
    place.first_chunk = chunk_begin[low] + place.kv_head * chunks_of(lengths[low]);
    return place;
  }

 private:
  __device__ Work scoring(int item) const { return item < sift_items ? Work::scores : Work::dense; }

  // Exclusive sums of the requests' counts times the KV heads, from `from` on; returns the end.
  template <class Count>
  __device__ int scan(int lane, int from, const Count& count_of, int* begin) const {
    int total = from;
    for (int first = 0; first < batch; first += kWarpThreads) {
      const int b = first + lane;
      const int count = b < batch ? count_of(b) * kv_heads : 0;
      int sum = count;
      for (int distance = 1; distance < kWarpThreads; distance *= 2) {
        const int other = __shfl_up_sync(kAllLanes, sum, distance);
        if (lane >= distance) sum += other;
      }
      if (b < batch) begin[b] = total + sum - count;
      total += __shfl_sync(kAllLanes, sum, kWarpThreads - 1);
    }
    if (lane == 0) begin[batch] = total;
    return total;
  }
};

}  // namespace sift::cuda
