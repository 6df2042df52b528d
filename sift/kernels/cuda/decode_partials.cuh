#pragma once

#include <type_traits>

#include "sift/kernels/cuda/decode_block.cuh"

namespace sift::cuda {

/// Adds the warps' sums of weighted values and writes them as the item's partial result
/// [group, kDim]. Each warp's are relative to its own maxima, which it has shared, and become
/// relative to the item's. Whole block; holds a barrier.
template <class Context, int kDim, int kHeadTiles>
__device__ void write_partial(const Context& c, const Item& item, int turn,
                              const ValueSums<kDim, kHeadTiles>& sums) {
  auto& shared = c.shared.results;
  using Results = std::remove_reference_t<decltype(shared)>;
  float* partial = c.w.partials + static_cast<std::int64_t>(item.partial) * c.group * kDim;
  for (int begin = 0; begin < c.group; begin += Results::kHeadsAdded) {
    if (begin > 0) __syncthreads();  // others may still read what is overwritten
    const int end = min(begin + Results::kHeadsAdded, c.group);
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int head = 8 * h + 2 * c.at.t + i;
        if (head < begin || head >= end) continue;
        float* to = shared.values[c.warp][head - begin] + c.at.g;
#pragma unroll
        for (int strip = 0; strip < kDim / 16; ++strip) {
          to[16 * strip] = sums.of[h][strip][i];
          to[16 * strip + 8] = sums.of[h][strip][i + 2];
        }
      }
    }
    __syncthreads();
    for (int i = 4 * static_cast<int>(threadIdx.x); i < (end - begin) * kDim;
         i += 4 * kBlockThreads) {
      float factors[kBlockWarps];
      float maximum = -__builtin_huge_valf();
#pragma unroll
      for (int warp = 0; warp < kBlockWarps; ++warp) {
        factors[warp] = shared.sums[turn % 2][warp][begin + i / kDim].maximum;
        maximum = fmaxf(maximum, factors[warp]);
      }
      float4 sum = {0, 0, 0, 0};
#pragma unroll
      for (int warp = 0; warp < kBlockWarps; ++warp) {
        const float4 more =
            *reinterpret_cast<const float4*>(&shared.values[warp][i / kDim][i % kDim]);
        const float factor = exp2_fast(finite_reference(factors[warp]) - finite_reference(maximum));
        sum = {sum.x + more.x * factor, sum.y + more.y * factor, sum.z + more.z * factor,
               sum.w + more.w * factor};
      }
      *reinterpret_cast<float4*>(partial + begin * kDim + i) = sum;
    }
  }
}

}  // namespace sift::cuda
