#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"
#include "sift/kernels/cuda/decode_sums.cuh"

namespace sift::cuda {

/// Which lanes of a warp work for which head where all go through values of items and heads: lane
/// `part` · group + `head` takes every parts-th item of its head.
struct HeadLanes {
  int group;
  int log_group;  ///< log2, or −1 for groups that are no power of two
  int parts;
  int head;
  int part;

  __device__ HeadLanes(const DecodeWorkspace& w, int lane)
      : group(w.group), log_group(w.log_group) {
    if (log_group >= 0) {
      parts = kWarpThreads >> log_group;
      head = lane & (group - 1);
      part = lane >> log_group;
    } else {
      parts = kWarpThreads / group;
      head = lane % group;
      part = lane / group;
    }
  }

  /// Puts the values of a head's lanes together, in all of them where the group is a power of two,
  /// else in the lanes of part 0, one a head.
  template <class V, class Add>
  __device__ V over_parts(V mine, const Add& add) const {
    V all = mine;
    if (log_group >= 0) {
      for (int distance = group; distance < kWarpThreads; distance *= 2) {
        all = add(all, __shfl_xor_sync(kAllLanes, all, distance));
      }
      return all;
    }
    for (int other = 1; other < parts; ++other) {
      const int lane = (head + (part + other) * group) % kWarpThreads;
      all = add(all, __shfl_sync(kAllLanes, mine, lane));
    }
    return all;
  }

  __device__ float highest(float mine) const {
    return over_parts(mine, [](float a, float b) { return fmaxf(a, b); });
  }

  /// Maximum and sum of all items, of which load(item, head) gives one; complete in the lanes of
  /// part 0, one a head.
  template <class Load>
  __device__ ItemSum join_all(int items, const Load& load) const {
    ItemSum all{-__builtin_huge_valf(), 0};
    if (part < parts) {
#pragma unroll 4
      for (int i = part; i < items; i += parts) all = join(all, load(i, head));
    }
    // Every lane that has a part must know the maximum of its head.
    const float maximum =
        log_group >= 0 ? highest(all.maximum) : __shfl_sync(kAllLanes, highest(all.maximum), head);
    const float scaled = all.sum * exp2_fast(all.maximum - finite_reference(maximum));
    return {maximum, over_parts(scaled, [](float a, float b) { return a + b; })};
  }
};

/// log2 η of a sifted head.
__device__ inline float log2_eta(const DecodeArguments& a, int request, int head) {
  return a.method.head_states != nullptr ? log2_threshold(a.method, request, head)
                                         : a.thresholds[request * a.heads + head];
}

/// What a warp selects for: rows of V by scores of all keys, or by those of candidates, or
/// candidates by estimates.
enum class Selects { keys, candidate_keys, candidates };

/// What follows from the sum of all scores of a sifted head, and the maximum of those that may
/// pass. `margin` lowers what they have to exceed.
__device__ inline HeadPlan plan_head(const DecodeArguments& a, ItemSum all, float maximum,
                                     float log2_eta, float margin) {
  HeadPlan plan;
  plan.maximum = maximum;
  plan.log_sum_exp = finite_reference(all.maximum) + log2f(all.sum);
  plan.threshold = log2_eta + plan.log_sum_exp - margin;
  plan.empty = !(maximum > plan.threshold) && a.sink == 0 && a.recent == 0 ? 1 : 0;
  return plan;
}

/// Among [items, group], the place of run `i` of an item's unit.
__device__ inline std::int64_t place_of(const DecodeArguments& a, const DecodeWorkspace& w,
                                        int first, int i, int head) {
  return (std::int64_t{first} + i * a.kv_heads) * w.group + head;
}

/// The plan of head `lane` of an item's unit, all of whose scores are complete: estimates decide
/// what candidates are, exact scores what is kept. By one warp.
template <Selects kSelects>
__device__ HeadPlan plan_heads(const DecodeArguments& a, const DecodeWorkspace& w, const Item& item,
                               int lane) {
  const float eta = lane < w.group ? log2_eta(a, item.request, item.kv_head * w.group + lane) : 0;
  const HeadLanes lanes(w, lane);
  float maximum = -__builtin_huge_valf();  // of what may pass
  ItemSum all;
  if constexpr (kSelects == Selects::candidate_keys) {
    all = lanes.join_all(value_cut(item.length, true).items(item.length), [&](int i, int head) {
      const RescoredSum* sum = w.rescored_sums + place_of(a, w, item.first, i, head);
      const float4 both = __ldcg(reinterpret_cast<const float4*>(sum));
      maximum = fmaxf(maximum, both.x);
      return join({both.x, both.y}, {both.z, both.w});
    });
    maximum = lanes.highest(maximum);
  } else {
    const int items = score_cut(item.length, estimates(a)).items(item.length);
    all = lanes.join_all(items, [&](int i, int head) {
      const ItemSum* sum = w.item_sums + place_of(a, w, item.first_scores, i, head);
      const float2 pair = __ldcg(reinterpret_cast<const float2*>(sum));
      return ItemSum{pair.x, pair.y};
    });
    maximum = all.maximum;
  }
  if (lane >= w.group) return {};
  const float margin = kSelects == Selects::candidates ? a.margin * kLog2EFloat : 0;
  return plan_head(a, all, maximum, eta, margin);
}

/// The lowest of the lanes' numbers that are not negative, or −1.
__device__ inline int lowest_of_lanes(int number) {
  return static_cast<int>(__reduce_min_sync(kAllLanes, static_cast<unsigned>(number)));
}

/// The first of `items` whose maximum, of which load(item) gives one, is `maximum`, or −1. By one
/// warp.
template <class Load>
__device__ int first_item_with(float maximum, int items, int lane, const Load& load) {
  int first = -1;
  for (int i = lane; i < items && first < 0; i += kWarpThreads) {
    if (load(i) == maximum) first = i;
  }
  return lowest_of_lanes(first);
}

/// The lowest key with the highest score of a head, if it is before key `end` and in the same item
/// of scores as one from `begin` on; else −1. By one warp.
__device__ inline int highest_key(const DecodeArguments& a, const DecodeWorkspace& w,
                                  const Item& item, int begin, int end, int head, float maximum,
                                  int lane) {
  const KeyCut cut = score_cut(item.length, estimates(a));
  const int first = first_item_with(maximum, cut.items(item.length), lane, [&](int i) {
    return __ldcg(&w.item_sums[place_of(a, w, item.first_scores, i, head)].maximum);
  });
  if (first < 0 || cut.begin(first + 1) <= begin) return -1;
  const float* scores =
      w.scores + item.scores * w.group + std::int64_t{head} * score_stride(item.length);
  int lowest = -1;
  const int before = min(cut.begin(first + 1), end);
  for (int key = cut.begin(first) + lane; key < before && lowest < 0; key += kWarpThreads) {
    if (__ldcg(scores + key) == maximum) lowest = key;
  }
  return lowest_of_lanes(lowest);
}

/// The lowest candidate with the highest exact score of a head, if it is one of the part of item
/// `item` that warp `warp` has; else −1. By one warp.
__device__ inline int highest_candidate(const DecodeArguments& a, const DecodeWorkspace& w,
                                        const Item& item, int warp, int head, float maximum,
                                        int lane) {
  const KeyCut cut = value_cut(item.length, true);
  const int first = first_item_with(maximum, cut.items(item.length), lane, [&](int i) {
    return __ldcg(&w.rescored_sums[place_of(a, w, item.first, i, head)].candidates.maximum);
  });
  if (first < 0 || cut.begin(first) != item.begin) return -1;
  const float* scores =
      w.scores + item.scores * w.group + std::int64_t{head} * score_stride(item.length);
  for (int part = 0; part <= warp; ++part) {
    const int begin = part_of_keys(item, part).begin;
    const int count = __ldcg(&w.candidate_counts[std::int64_t{item.number} * kBlockWarps + part]);
    int lowest = -1;  // as unsigned the highest
    for (int i = lane; i < count; i += kWarpThreads) {
      if (__ldcg(scores + begin + i) != maximum) continue;
      const int key = __ldcg(&w.candidate_rows[item.scores + begin + i].key);
      lowest = static_cast<int>(min(static_cast<unsigned>(lowest), static_cast<unsigned>(key)));
    }
    lowest = lowest_of_lanes(lowest);
    if (lowest >= 0) return part == warp ? lowest : -1;
  }
  return -1;
}

}  // namespace sift::cuda
