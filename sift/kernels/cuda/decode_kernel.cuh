#pragma once

#include "sift/kernels/cuda/decode_dense.cuh"
#include "sift/kernels/cuda/decode_rescore.cuh"
#include "sift/kernels/cuda/decode_shadow.cuh"
#include "sift/kernels/cuda/decode_values.cuh"

// One step of decode attention for all requests of a batch, dense and sifted, is a row of launches,
// each of as many blocks as fit the device: reading (all keys of every request, or their shadows,
// and the values of those that attend exactly), candidates (where scores are estimated), values (of
// requests that sift), and the merging of what items left (decode_merge.cuh). Blocks claim items
// until there are no more.

namespace sift::cuda {

/// Blocks of the reading kernel that have to fit a multiprocessor: as many as the registers and the
/// tiles of their warps allow.
template <int kDim, int kMostHeads>
constexpr int reading_blocks() {
  if (kDim > 128) return kMostHeads > 8 ? 1 : 2;
  if (kMostHeads > 4) return kDim > 64 ? 2 : 3;
  return kDim > 64 ? 3 : 4;
}

/// The same of the kernels of candidates and values, whose warps have rows in registers.
template <int kDim, int kMostHeads>
constexpr int gathering_blocks() {
  return kDim > 128 || kMostHeads > 8 ? 2 : 4;
}

template <class T, int kDim, int kMostHeads, bool kEstimates>
__global__ void __launch_bounds__(kBlockThreads, (reading_blocks<kDim, kMostHeads>()))
    reading_kernel(const __grid_constant__ DecodeArguments a,
                   const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  auto& shared = *reinterpret_cast<BlockShared<kDim, kMostHeads>*>(memory);
  using Context = BlockContext<kDim, kMostHeads, kEstimates>;
  Context c(a, w, shared);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const bool is_claimant = c.claims.is_claimant();
  if (is_claimant) c.claims.begin(w);
  ItemTable& table = shared.table;
  if (c.warp == 0) table.fill(a, c.at.lane);
  __syncthreads();
  if (is_claimant) {
    const ItemCounts& all = table.all;
    if (all.reading() > w.item_capacity || all.of[kValues] + all.dense() > w.item_capacity ||
        std::int64_t{all.of[kScoreRows]} * kScoreRowPadding > w.score_capacity) {
      __trap();
    }
    for (int i = 0; i < 2; ++i) c.claims.next(a, w, table, shared.items[i]);
  }
  __syncthreads();
  int turn = 0;
  while (true) {
    const Work work = c.item(turn).work;
    if (work == Work::scores) {
      using Tiles =
          std::conditional_t<kEstimates, ShadowTiles<T, kDim, Context>, KeyTiles<T, kDim, Context>>;
      turn = ScoreWorker<Tiles, Context>(c, turn).run(turn);
    } else if (work == Work::dense) {
      turn = DenseWorker<T, kDim, Context>(c, turn).run(turn);
    } else {
      return;
    }
  }
}

template <class T, int kDim, int kMostHeads>
__global__ void __launch_bounds__(kBlockThreads, (gathering_blocks<kDim, kMostHeads>()))
    candidates_kernel(const __grid_constant__ DecodeArguments a,
                      const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Worker = CandidateWorker<T, kDim, kMostHeads>;
  work_on_items<Worker>(a, w, *reinterpret_cast<typename Worker::Shared*>(memory),
                        &w.step->candidates);
}

template <class T, int kDim, int kMostHeads, bool kEstimates>
__global__ void __launch_bounds__(kBlockThreads, (gathering_blocks<kDim, kMostHeads>()))
    values_kernel(const __grid_constant__ DecodeArguments a,
                  const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Worker = ValueWorker<T, kDim, kMostHeads, kEstimates>;
  work_on_items<Worker>(a, w, *reinterpret_cast<typename Worker::Shared*>(memory),
                        &w.step->values);
}

}  // namespace sift::cuda
