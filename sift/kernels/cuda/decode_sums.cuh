#pragma once

#include "sift/kernels/cuda/decode_workspace.h"
#include "sift/kernels/cuda/device_primitives.cuh"

namespace sift::cuda {

/// What scores are taken relative to: their maximum, and 0 when all are −∞.
__device__ inline float finite_reference(float maximum) {
  return maximum == -__builtin_huge_valf() ? 0.0F : maximum;
}

/// Maximum and sum of two sets of scores together.
__device__ inline ItemSum join(ItemSum a, ItemSum b) {
  const float maximum = fmaxf(a.maximum, b.maximum);
  const float reference = finite_reference(maximum);
  return {maximum,
          a.sum * exp2_fast(a.maximum - reference) + b.sum * exp2_fast(b.maximum - reference)};
}

/// The same over all lanes of a warp, whichever lane asks.
__device__ inline ItemSum join_lanes(ItemSum mine) {
#pragma unroll
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    mine = join(mine, {__shfl_xor_sync(kAllLanes, mine.maximum, distance),
                       __shfl_xor_sync(kAllLanes, mine.sum, distance)});
  }
  return mine;
}

template <class V>
__device__ V sum_lanes(V value) {
#pragma unroll
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

/// Counts an item of a unit that is complete; whether it is the last of `items`. By one warp.
__device__ inline bool completes(unsigned* counter, int items, int lane) {
  __syncwarp();
  bool last = false;
  if (lane == 0) last = add_acquire_release(counter, 1U) + 1 == static_cast<unsigned>(items);
  return __any_sync(kAllLanes, last);
}

}  // namespace sift::cuda
