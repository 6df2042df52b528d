#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"

namespace sift::cuda {

/// Items of exact attention, as one thread claims them for its block.
class ItemClaims {
 public:
  /// Not a thread of the warp that ends items.
  static __device__ bool is_claimant() { return threadIdx.x == kWarpThreads; }

  __device__ void begin(const DecodeWorkspace& w) { claimed_ = atomicAdd(&w.step->dense, 1U); }

  /// Finds out the block's next item.
  __device__ void next(const DecodeArguments& a, const DecodeWorkspace& w, const ItemTable& table,
                       Item& item) {
    item = table.dense_item(a, claimed_);
    claimed_ = atomicAdd(&w.step->dense, 1U);
  }

 private:
  unsigned claimed_ = 0;  // the next one
};

}  // namespace sift::cuda
