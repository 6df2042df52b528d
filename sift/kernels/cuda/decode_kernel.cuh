#pragma once

#include "sift/kernels/cuda/decode_consume.cuh"
#include "sift/kernels/cuda/decode_select.cuh"

namespace sift::cuda {

/// One step of decode attention for all requests of a batch, dense and sifted, in one launch of
/// as many blocks as fit the device. Blocks claim items until there are no more.
template <class T, int kDim, int kMostHeads>
__global__ void __launch_bounds__(kBlockThreads, kDim <= 128 ? 2 : 1)
    decode_kernel(const __grid_constant__ DecodeArguments a,
                  const __grid_constant__ DecodeWorkspace w) {
  using Shared = SharedLayout<kDim, kMostHeads>;
  extern __shared__ __align__(128) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shared::kTiles; ++i) {
      barrier_init(&shared.tile_full[i], kWarpThreads + 1);
      barrier_init(&shared.tile_empty[i], kConsumerWarps);
    }
    for (int i = 0; i < Shared::kSlots; ++i) {
      barrier_init(&shared.slot_full[i], 1);
      barrier_init(&shared.slot_empty[i], kConsumerWarps);
    }
  }
  __syncthreads();
  const int warp = threadIdx.x / kWarpThreads;
  if (warp == kConsumerWarps) {
    ItemTable table{shared.sift_begin, shared.dense_begin, shared.chunk_begin, shared.lengths};
    constexpr int kItemsInFlight = 2;  // of one block
    table.fill(a, kItemsInFlight * static_cast<int>(gridDim.x), threadIdx.x % kWarpThreads);
    if (table.chunks > w.item_capacity) __trap();
    Selector<T, kDim, kMostHeads>(a, w, table, shared).run();
  } else if (warp == kConsumerWarps + 1) {
    Loader<T, kDim, kMostHeads>(a, shared).run();
  } else {
    Consumer<T, kDim, kMostHeads>(a, w, shared).run();
  }
}

}  // namespace sift::cuda
