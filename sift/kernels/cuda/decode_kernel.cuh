#pragma once

#include "sift/kernels/cuda/decode_dense.cuh"
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
template <class T, int kDim, int kMostHeads>
__global__ void __launch_bounds__(kBlockThreads, (resident_blocks<kDim, kMostHeads>()))
    decode_kernel(const __grid_constant__ DecodeArguments a,
                  const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  auto& shared = *reinterpret_cast<BlockShared<kDim, kMostHeads>*>(memory);
  BlockContext<kDim, kMostHeads> c(a, w, shared);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  if (threadIdx.x == 0) c.claimed = atomicAdd(&w.step->claimed, 1U);
  if (c.warp == 0) {
    ItemTable& table = shared.table;
    table.fill(a, static_cast<int>(gridDim.x), c.at.lane);
    const RequestPlace& all = table.all;
    if (all.scores + all.dense > w.item_capacity ||
        std::int64_t{all.rows} * kScoreRowPadding > w.score_capacity) {
      __trap();
    }
    // Not all at once: every block shall have a first item before any has its second.
    if (c.at.lane == 0) {
      for (int i = 0; i < 2; ++i) {
        shared.items[i] = table.claim(a, static_cast<int>(c.claimed));
        c.claimed = atomicAdd(&w.step->claimed, 1U);
      }
    }
  }
  __syncthreads();
  int turn = 0;
  while (true) {
    const Work work = c.item(turn).work;
    if (work == Work::scores) {
      turn = ScoreWorker<T, kDim, kMostHeads>(c, turn).run(turn);
    } else if (work == Work::values) {
      turn = ValueWorker<T, kDim, kMostHeads>(c, turn).run(turn);
    } else if (work == Work::dense) {
      turn = DenseWorker<T, kDim, kMostHeads>(c, turn).run(turn);
    } else {
      return;
    }
  }
}

}  // namespace sift::cuda
