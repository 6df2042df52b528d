#pragma once

#include "sift/kernels/cuda/decode_block.cuh"

namespace sift::cuda {

/// Which lanes of a warp work for which head where all go through values [items, group]: lane
/// `part` · group + `head` takes every parts-th item of its head.
struct HeadLanes {
  int group;
  int parts;
  int head;
  int part;

  __device__ HeadLanes(int heads, int lane)
      : group(heads), parts(kWarpThreads / heads), head(lane % heads), part(lane / heads) {}

  /// Maximum and sum of all items; complete in the lanes of part 0, one a head.
  __device__ ItemSum join_all(const ItemSum* sums, int items) const {
    ItemSum all{-__builtin_huge_valf(), 0};
    if (part < parts) {
#pragma unroll 4
      for (int i = part; i < items; i += parts) {
        const float2 pair = __ldcg(reinterpret_cast<const float2*>(sums + i * group + head));
        all = join(all, {pair.x, pair.y});
      }
    }
    const ItemSum mine = all;
    for (int other = 1; other < parts; ++other) {
      const int lane = (head + (part + other) * group) % kWarpThreads;
      const float maximum = __shfl_sync(kAllLanes, mine.maximum, lane);
      const float sum = __shfl_sync(kAllLanes, mine.sum, lane);
      all = join(all, {maximum, sum});
    }
    return all;
  }
};

/// What follows from the maximum and sum of all scores of a sifted head.
__device__ inline HeadPlan plan_head(const DecodeArguments& a, int request, int head, ItemSum all) {
  HeadPlan plan;
  plan.maximum = all.maximum;
  plan.log_sum_exp = finite_reference(all.maximum) + log2f(all.sum);
  const float log2_eta = a.method.head_states != nullptr ? log2_threshold(a.method, request, head)
                                                         : a.thresholds[request * a.heads + head];
  plan.threshold = log2_eta + plan.log_sum_exp;
  plan.empty = !(all.maximum > plan.threshold) && a.sink == 0 && a.recent == 0 ? 1 : 0;
  return plan;
}

/// Plans the heads of a unit, all of whose scores are complete. By one warp.
template <int kDim, int kMostHeads>
__device__ void plan_unit(const BlockContext<kDim, kMostHeads>& c, const Item& item) {
  const HeadLanes lanes(c.group, c.at.lane);
  const ItemSum all = lanes.join_all(c.w.item_sums + std::int64_t{item.first_sum} * c.group,
                                     score_cut(item.length).items(item.length));
  if (c.at.lane < c.group) {
    c.w.plans[c.first_head(item) + c.at.lane] =
        plan_head(c.a, item.request, item.kv_head * c.group + c.at.lane, all);
  }
  __syncwarp();
  if (c.at.lane == 0) store_release(&c.w.units[c.unit(item)].planned, 1U);
}

}  // namespace sift::cuda
