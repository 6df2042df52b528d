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

/// Maxima and sums of scores that a lane has of heads 8 h + 2t + j, or, where two tiles of keys
/// share a product of four heads, of head (2t + j) % 4.
template <int kHeadTiles>
struct LaneSums {
  ItemSum of[kHeadTiles][2];

  __device__ void clear() {
#pragma unroll
    for (auto& tile : of) {
      for (ItemSum& sum : tile) sum = {-__builtin_huge_valf(), 0};
    }
  }

  /// Scores of two keys: [i] is that of key i / 2 under head 8 h + 2t + i % 2.
  __device__ void add(const float (&scores)[4], int h) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      ItemSum& sum = of[h][j];
      const float maximum = fmaxf(sum.maximum, fmaxf(scores[j], scores[j + 2]));
      const float reference = finite_reference(maximum);
      sum.sum = sum.sum * exp2_fast(sum.maximum - reference) +
                (exp2_fast(scores[j] - reference) + exp2_fast(scores[j + 2] - reference));
      sum.maximum = maximum;
    }
  }

  /// Puts those of the whole warp, of which each lane has its own part, into `shared`. kHeadLanes:
  /// lanes with different heads, 4 or 2.
  template <int kHeadLanes = 4>
  __device__ void share(ItemSum* shared, int lane) {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float maximum = of[h][j].maximum;
#pragma unroll
        for (int distance = kHeadLanes; distance < kWarpThreads; distance *= 2) {
          maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, distance));
        }
        float sum = of[h][j].sum * exp2_fast(of[h][j].maximum - finite_reference(maximum));
#pragma unroll
        for (int distance = kHeadLanes; distance < kWarpThreads; distance *= 2) {
          sum += __shfl_xor_sync(kAllLanes, sum, distance);
        }
        if (lane < kHeadLanes) shared[8 * h + 2 * lane + j] = {maximum, sum};
      }
    }
  }
};

}  // namespace sift::cuda
