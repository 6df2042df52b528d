#pragma once

#include "sift/kernels/cuda/decode_dense.cuh"
#include "sift/kernels/cuda/decode_rescore.cuh"
#include "sift/kernels/cuda/decode_shadow.cuh"
#include "sift/kernels/cuda/decode_values.cuh"

namespace sift::cuda {

/// Blocks that have to fit a multiprocessor: as many as the registers and the tiles of their warps
/// allow.
template <int kDim, int kMostHeads>
constexpr int resident_blocks() {
  if (kDim > 128) return kMostHeads > 8 ? 1 : 2;
  if (kMostHeads > 4) return kDim > 64 ? 2 : 3;
  return kDim > 64 ? 3 : 4;
}

/// One step of decode attention for all requests of a batch, dense and sifted, up to the results of
/// items, in one launch of as many blocks as fit the device. Blocks claim items, two ahead of use,
/// until there are no more.
template <class T, int kDim, int kMostHeads, bool kEstimates>
__global__ void __launch_bounds__(kBlockThreads, (resident_blocks<kDim, kMostHeads>()))
    decode_kernel(const __grid_constant__ DecodeArguments a,
                  const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  auto& shared = *reinterpret_cast<BlockShared<kDim, kMostHeads, kEstimates>*>(memory);
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
    if (all.reading() > w.item_capacity || all.values() + all.dense() > w.item_capacity ||
        std::int64_t{all.of[kScoreRows]} * kScoreRowPadding > w.score_capacity) {
      __trap();
    }
    for (int i = 0; i < 2; ++i) c.claims.next_unasked(a, w, table, shared.waiting, shared.items[i]);
  }
  __syncthreads();
  int turn = 0;
  while (true) {
    const Work work = c.item(turn).work;
    if (work == Work::scores) {
      using Tiles =
          std::conditional_t<kEstimates, ShadowTiles<T, kDim, Context>, KeyTiles<T, kDim, Context>>;
      turn = ScoreWorker<Tiles, Context>(c, turn).run(turn);
    } else if (work == Work::values) {
      turn = ValueWorker<T, kDim, Context>(c, turn).run(turn);
    } else if (work == Work::dense) {
      turn = DenseWorker<T, kDim, Context>(c, turn).run(turn);
    } else if (kEstimates && work == Work::candidates) {
      if constexpr (kEstimates) turn = RescoreWorker<T, kDim, Context>(c, turn).run(turn);
    } else {
      return;
    }
  }
}

}  // namespace sift::cuda
