#pragma once

#include "sift/kernels/cuda/decode_items.cuh"

namespace sift::cuda {

inline constexpr int kBlockThreads = kBlockWarps * kWarpThreads;

/// Items that a block works on one after another, and how it finds them.
struct ItemLoopShared {
  Item items[2];  ///< used in turns
  ItemTable table;
};

/// Bytes of shared memory that a batch needs of `Shared`, whose last member are ItemLoopShared.
template <class Shared>
constexpr std::size_t shared_bytes(int batch) {
  return sizeof(Shared) - (kMaximumBatch - batch) * sizeof(RequestEntry);
}

/// The part of an item that one warp works on: entries [begin, end) of its unit.
struct WarpPart {
  int begin;
  int end;
};

/// The keys of one warp's part.
__device__ inline WarpPart part_of_keys(const Item& item, int warp) {
  const int each = (item.end - item.begin + kBlockThreads - 1) / kBlockThreads * kWarpThreads;
  return {item.begin + warp * each, min(item.begin + (warp + 1) * each, item.end)};
}

/// Items of values and of candidates (Worker::kWork), which the blocks of one launch claim one ahead
/// of use. `claimed` counts claims beyond a block's first.
template <class Worker>
__device__ void work_on_items(const DecodeArguments& a, const DecodeWorkspace& w,
                              typename Worker::Shared& shared, unsigned* claimed) {
  ItemLoopShared& items = shared.items;
  if (threadIdx.x < kWarpThreads) items.table.fill(a, static_cast<int>(threadIdx.x));
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const bool is_claimant = threadIdx.x == 0;
  if (is_claimant) items.items[0] = items.table.value_item(a, Worker::kWork, blockIdx.x);
  __syncthreads();
  Worker worker(a, w, shared);
  for (int turn = 0;; ++turn) {
    const Item item = items.items[turn % 2];
    if (item.work == Work::none) return;
    if (is_claimant) {
      const unsigned next = gridDim.x + atomicAdd(claimed, 1U);
      items.items[(turn + 1) % 2] = items.table.value_item(a, Worker::kWork, next);
    }
    worker.work(item);  // ends with a barrier
  }
}

}  // namespace sift::cuda
