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

/// Waits, each warp by itself, until what an item of candidates or values needs of its unit is
/// there. Blocks that it waits for have begun: see work_on_items.
__device__ inline void wait_for_unit(const DecodeArguments& a, const DecodeWorkspace& w,
                                     const Item& item) {
  if (threadIdx.x % kWarpThreads == 0) {
    const UnitProgress& unit = w.units[item.request * a.kv_heads + item.kv_head];
    if (item.work == Work::values && estimates(a)) {
      wait_acquire(&unit.candidate_items, value_cut(item.length, true).items(item.length));
    } else {
      wait_acquire(&unit.score_items, score_cut(item.length, estimates(a)).items(item.length));
    }
  }
  __syncwarp();
}

/// Items of scores, candidates or values (Worker::kWork), one after another: first the one that has
/// the block's number, then what it claims; `claimed` counts claims. A launch has the blocks that
/// fit the device, or fewer where there are fewer items; blocks of the next kernel begin as places
/// become free.
///
/// Blocks of the step's first launch wait before they do anything. So what came before this step is
/// complete when later launches begin; and since these begin when all blocks of the launch before
/// have, they may wait for single items of it, those of the unit at hand. One block waits for the
/// whole launch in the end: none must end earlier than the one before.
template <class Worker>
__device__ void work_on_items(const DecodeArguments& a, const DecodeWorkspace& w,
                              typename Worker::Shared& shared, unsigned* claimed) {
  constexpr bool kOfScores = Worker::kWork == Work::scores;
  ItemLoopShared& loop = shared.loop;
  const bool waits_first = kOfScores && !a.exact;
  if (waits_first) wait_for_previous_kernel();
  let_next_kernel_begin();
  if (threadIdx.x < kWarpThreads) {
    if constexpr (kOfScores) {
      loop.table.fill<kScores, kScoreRows>(a, static_cast<int>(threadIdx.x));
    } else {
      loop.table.fill<kScores, kValues, kScoreRows>(a, static_cast<int>(threadIdx.x));
    }
  }
  __syncthreads();
  if constexpr (kOfScores) loop.table.check(a, w);
  const int items = loop.table.sifted_items(Worker::kWork);
  const int blocks = static_cast<int>(gridDim.x);
  int number = static_cast<int>(blockIdx.x);
  Worker worker(a, w, shared);
  while (number < items) {
    if (items > blocks && threadIdx.x == 0) {
      loop.next = blocks + static_cast<int>(atomicAdd(claimed, 1U));
    }
    const Item item = loop.table.sifted_item(a, Worker::kWork, number);
    if constexpr (!kOfScores) wait_for_unit(a, w, item);
    worker.work(item);
    if (items <= blocks) break;
    __syncthreads();
    number = loop.next;
    __syncthreads();
  }
  if (!waits_first && blockIdx.x == 0) wait_for_previous_kernel();
}

}  // namespace sift::cuda
