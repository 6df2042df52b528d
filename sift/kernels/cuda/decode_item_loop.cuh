#pragma once

#include "sift/kernels/cuda/decode_items.cuh"

namespace sift::cuda {

inline constexpr int kBlockThreads = kBlockWarps * kWarpThreads;

/// What a block needs to find its items.
struct ItemLoopShared {
  int next;  ///< item
  ItemTable table;
};

/// Bytes of shared memory that a batch needs of `Shared`, whose last member is ItemLoopShared.
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

/// Items of scores, candidates or values (Worker::kWork), one after another: first the one that has
/// the block's number, then what it claims; `claimed` counts claims. Most launches have a block for
/// each item, so that the device deals them, and blocks of the next kernel begin as places become
/// free.
///
/// Blocks of scores wait before they do anything. So what came before this step is complete when
/// later launches begin, and these find out their items before they wait for the launch before
/// them; blocks without any do not wait, all but one: a launch must not end earlier than the one
/// before.
template <class Worker>
__device__ void work_on_items(const DecodeArguments& a, const DecodeWorkspace& w,
                              typename Worker::Shared& shared, unsigned* claimed) {
  constexpr bool kWaitsFirst = Worker::kWork == Work::scores;
  ItemLoopShared& loop = shared.loop;
  if constexpr (kWaitsFirst) wait_for_previous_kernel();
  if (threadIdx.x < kWarpThreads) {
    if constexpr (kWaitsFirst) {
      loop.table.fill<kScores, kScoreRows>(a, static_cast<int>(threadIdx.x));
    } else {
      loop.table.fill<kScores, kValues, kScoreRows>(a, static_cast<int>(threadIdx.x));
    }
  }
  __syncthreads();
  if constexpr (kWaitsFirst) loop.table.check(a, w);
  const int items = loop.table.sifted_items(Worker::kWork);
  const int blocks = static_cast<int>(gridDim.x);
  int number = static_cast<int>(blockIdx.x);
  if (number >= items && number > 0) return;
  if constexpr (!kWaitsFirst) wait_for_previous_kernel();
  let_next_kernel_begin();
  Worker worker(a, w, shared);
  while (number < items) {
    if (items > blocks && threadIdx.x == 0) {
      loop.next = blocks + static_cast<int>(atomicAdd(claimed, 1U));
    }
    worker.work(loop.table.sifted_item(a, Worker::kWork, number));
    if (items <= blocks) return;
    __syncthreads();
    number = loop.next;
    __syncthreads();
  }
}

}  // namespace sift::cuda
