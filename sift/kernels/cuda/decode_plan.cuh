#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"
#include "sift/kernels/cuda/decode_sums.cuh"

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

  /// Maximum and sum of all items, of which load(item, head) gives one; complete in the lanes of part
  /// 0, one a head.
  template <class Load>
  __device__ ItemSum join_all(int items, const Load& load) const {
    ItemSum all{-__builtin_huge_valf(), 0};
    if (part < parts) {
#pragma unroll 4
      for (int i = part; i < items; i += parts) all = join(all, load(i, head));
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
/// pass. `margin` lowers what they have to exceed. An empty head keeps no key yet.
__device__ inline HeadPlan plan_head(const DecodeArguments& a, int request, int head, ItemSum all,
                                     float maximum, float margin) {
  HeadPlan plan;
  plan.maximum = maximum;
  plan.log_sum_exp = finite_reference(all.maximum) + log2f(all.sum);
  plan.threshold = log2_eta(a, request, head) + plan.log_sum_exp - margin;
  const bool is_empty = !(maximum > plan.threshold) && a.sink == 0 && a.recent == 0;
  plan.only_key = is_empty ? HeadPlan::kNone : HeadPlan::kNotEmpty;
  return plan;
}

/// The lowest of the lanes' numbers that are not negative, or HeadPlan::kNone.
__device__ inline int lowest_of_lanes(int number) {
  const unsigned lowest = __reduce_min_sync(kAllLanes, static_cast<unsigned>(number));
  return lowest > 0x7fffffffU ? HeadPlan::kNone : static_cast<int>(lowest);
}

/// The first of `items` whose maximum, of which load(item) gives one, is `maximum`. By one warp.
template <class Load>
__device__ int first_item_with(float maximum, int items, int lane, const Load& load) {
  int first = -1;
  for (int i = lane; i < items && first < 0; i += kWarpThreads) {
    if (load(i) == maximum) first = i;
  }
  return lowest_of_lanes(first);
}

/// Among [items, group], the place of run `i` of an item's unit.
__device__ inline std::int64_t place_of(const DecodeArguments& a, const DecodeWorkspace& w,
                                        const Item& item, int i, int head) {
  return (std::int64_t{item.first} + i * a.kv_heads) * w.group + head;
}

/// The lowest key with the highest score of a head. By one warp.
__device__ inline int highest_key(const DecodeArguments& a, const DecodeWorkspace& w,
                                  const Item& item, int head, float maximum, int lane) {
  const int group = w.group;
  const KeyCut cut = score_cut(item.length, estimates(a));
  const int first = first_item_with(maximum, cut.items(item.length), lane, [&](int i) {
    return __ldcg(&w.item_sums[place_of(a, w, item, i, head)].maximum);
  });
  if (first < 0) return HeadPlan::kNone;
  const float* scores =
      w.scores + item.scores * group + std::int64_t{head} * score_stride(item.length);
  const int end = min(cut.begin(first + 1), item.length);
  int lowest = -1;
  for (int key = cut.begin(first) + lane; key < end && lowest < 0; key += kWarpThreads) {
    if (__ldcg(scores + key) == maximum) lowest = key;
  }
  return lowest_of_lanes(lowest);
}

/// The lowest candidate with the highest exact score of a head. By one warp.
__device__ inline int highest_candidate(const DecodeArguments& a, const DecodeWorkspace& w,
                                        const Item& item, int head, float maximum, int lane) {
  const int group = w.group;
  const KeyCut cut = value_cut(item.length);
  const int first = first_item_with(maximum, cut.items(item.length), lane, [&](int i) {
    return __ldcg(&w.rescored_sums[place_of(a, w, item, i, head)].candidates.maximum);
  });
  if (first < 0) return HeadPlan::kNone;
  Item with = item;
  with.begin = cut.begin(first);
  with.end = min(cut.begin(first + 1), item.length);
  const float* scores =
      w.scores + item.scores * group + std::int64_t{head} * score_stride(item.length);
  unsigned lowest = ~0U;
  for (int warp = 0; warp < kBlockWarps; ++warp) {
    const int begin = part_of_keys(with, warp).begin;
    const int count =
        __ldcg(&w.candidate_counts[(std::int64_t{item.first} + first * a.kv_heads) * kBlockWarps + warp]);
    for (int i = lane; i < count; i += kWarpThreads) {
      if (__ldcg(scores + begin + i) != maximum) continue;
      const int key = __ldcg(&w.candidate_rows[item.scores + begin + i].key);
      lowest = min(lowest, static_cast<unsigned>(key));
    }
  }
  return lowest_of_lanes(static_cast<int>(lowest));
}

/// Finds the keys that are selected though nothing passes, of the heads that are empty, of which
/// find(head, maximum) gives one; `plan` is that of the lane's head. By one warp.
template <class Find>
__device__ void find_only_keys(HeadPlan& plan, int lane, const Find& find) {
  unsigned empty = __ballot_sync(kAllLanes, plan.only_key != HeadPlan::kNotEmpty);
  for (; empty != 0; empty &= empty - 1) {
    const int head = __ffs(static_cast<int>(empty)) - 1;
    const int key = find(head, __shfl_sync(kAllLanes, plan.maximum, head));
    if (lane == head) plan.only_key = key;
  }
}

/// Plans the heads of a unit, all of whose scores are complete. Estimates decide what candidates
/// are, of which a head has at least one; exact scores what is kept. By one warp.
template <bool kEstimates>
__device__ void plan_unit(const DecodeArguments& a, const DecodeWorkspace& w, const Item& item,
                          int lane) {
  const int group = w.group;
  const HeadLanes lanes(group, lane);
  const int items = score_cut(item.length, kEstimates).items(item.length);
  const ItemSum all = lanes.join_all(items, [&](int i, int of) {
    const ItemSum* sum = w.item_sums + place_of(a, w, item, i, of);
    const float2 pair = __ldcg(reinterpret_cast<const float2*>(sum));
    return ItemSum{pair.x, pair.y};
  });
  const int head = item.kv_head * group + lane;
  HeadPlan plan;
  if (lane < group) {
    const float margin = kEstimates ? a.margin * kLog2EFloat : 0;
    plan = plan_head(a, item.request, head, all, all.maximum, margin);
  }
  if (kEstimates || a.empty == EmptyHead::highest) {
    find_only_keys(plan, lane, [&](int of, float maximum) {
      return highest_key(a, w, item, of, maximum, lane);
    });
  }
  if (lane < group) (kEstimates ? w.candidate_plans : w.plans)[item.request * a.heads + head] = plan;
}

/// Plans the heads of a unit, all of whose candidates have exact scores. By one warp.
__device__ inline void replan_unit(const DecodeArguments& a, const DecodeWorkspace& w,
                                   const Item& item, int lane) {
  const int group = w.group;
  const HeadLanes lanes(group, lane);
  float maximum = -__builtin_huge_valf();
  const ItemSum all = lanes.join_all(value_cut(item.length).items(item.length), [&](int i, int of) {
    const RescoredSum* sum = w.rescored_sums + place_of(a, w, item, i, of);
    const float4 both = __ldcg(reinterpret_cast<const float4*>(sum));
    maximum = fmaxf(maximum, both.x);
    return join({both.x, both.y}, {both.z, both.w});
  });
  const float mine = maximum;
  for (int other = 1; other < lanes.parts; ++other) {
    const int from = (lanes.head + (lanes.part + other) * group) % kWarpThreads;
    maximum = fmaxf(maximum, __shfl_sync(kAllLanes, mine, from));
  }
  const int head = item.kv_head * group + lane;
  HeadPlan plan;
  if (lane < group) plan = plan_head(a, item.request, head, all, maximum, 0);
  if (a.empty == EmptyHead::highest) {
    find_only_keys(plan, lane, [&](int of, float highest) {
      return highest_candidate(a, w, item, of, highest, lane);
    });
  }
  if (lane < group) w.plans[item.request * a.heads + head] = plan;
}

}  // namespace sift::cuda
