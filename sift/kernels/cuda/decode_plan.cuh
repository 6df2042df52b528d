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

  /// Maximum and sum of all items, of which load(place) gives one, places being [items, group];
  /// complete in the lanes of part 0, one a head.
  template <class Load>
  __device__ ItemSum join_all(int items, const Load& load) const {
    ItemSum all{-__builtin_huge_valf(), 0};
    if (part < parts) {
#pragma unroll 4
      for (int i = part; i < items; i += parts) all = join(all, load(i * group + head));
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

/// log2 η of a sifted head.
__device__ inline float log2_eta(const DecodeArguments& a, int request, int head) {
  return a.method.head_states != nullptr ? log2_threshold(a.method, request, head)
                                         : a.thresholds[request * a.heads + head];
}

/// What follows from the sum of all scores of a sifted head, and the maximum of those that may
/// pass. `margin` lowers what they have to exceed.
__device__ inline HeadPlan plan_head(const DecodeArguments& a, int request, int head, ItemSum all,
                                     float maximum, float margin) {
  HeadPlan plan;
  plan.maximum = maximum;
  plan.log_sum_exp = finite_reference(all.maximum) + log2f(all.sum);
  plan.threshold = log2_eta(a, request, head) + plan.log_sum_exp - margin;
  plan.empty = !(maximum > plan.threshold) && a.sink == 0 && a.recent == 0 ? 1 : 0;
  return plan;
}

/// Plans the heads of a unit, all of whose scores are complete. Estimates decide what candidates
/// are, exact scores what is kept. By one warp.
template <class Context>
__device__ void plan_unit(const Context& c, const Item& item) {
  const HeadLanes lanes(c.group, c.at.lane);
  const ItemSum* sums = c.w.item_sums + std::int64_t{item.first_sum} * c.group;
  const ItemSum all = lanes.join_all(score_cut(item.length).items(item.length), [&](int place) {
    const float2 pair = __ldcg(reinterpret_cast<const float2*>(sums + place));
    return ItemSum{pair.x, pair.y};
  });
  HeadPlan* plans = Context::kEstimated ? c.w.candidate_plans : c.w.plans;
  const float margin = Context::kEstimated ? c.a.margin * kLog2EFloat : 0;
  if (c.at.lane < c.group) {
    plans[c.first_head(item) + c.at.lane] =
        plan_head(c.a, item.request, item.kv_head * c.group + c.at.lane, all, all.maximum, margin);
  }
  __syncwarp();
  if (c.at.lane == 0) store_release(&c.w.units[c.unit(item)].planned, 1U);
}

/// Plans the heads of a unit, all of whose candidates have exact scores. By one warp.
template <class Context>
__device__ void replan_unit(const Context& c, const Item& item) {
  const HeadLanes lanes(c.group, c.at.lane);
  const RescoredSum* sums = c.w.rescored_sums + std::int64_t{item.first_part} * c.group;
  const int items = value_cut(item.length).items(item.length);
  float maximum = -__builtin_huge_valf();
  const ItemSum all = lanes.join_all(items, [&](int place) {
    const float4 both = __ldcg(reinterpret_cast<const float4*>(sums + place));
    maximum = fmaxf(maximum, both.x);
    return join({both.x, both.y}, {both.z, both.w});
  });
  const float mine = maximum;
  for (int other = 1; other < lanes.parts; ++other) {
    const int lane = (lanes.head + (lanes.part + other) * c.group) % kWarpThreads;
    maximum = fmaxf(maximum, __shfl_sync(kAllLanes, mine, lane));
  }
  if (c.at.lane < c.group) {
    c.w.plans[c.first_head(item) + c.at.lane] =
        plan_head(c.a, item.request, item.kv_head * c.group + c.at.lane, all, maximum, 0);
  }
  __syncwarp();
  if (c.at.lane == 0) store_release(&c.w.units[c.unit(item)].replanned, 1U);
}

}  // namespace sift::cuda
