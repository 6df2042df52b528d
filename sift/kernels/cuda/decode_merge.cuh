#pragma once

#include "sift/kernels/cuda/decode_shared.cuh"

namespace sift::cuda {

/// What scores are taken relative to: their maximum, and 0 when all are −∞.
__device__ inline float finite_reference(float maximum) {
  return maximum == -__builtin_huge_valf() ? 0.0F : maximum;
}

__device__ inline ItemSum load_sum(const ItemSum* place) {
  const float2 pair = __ldcg(reinterpret_cast<const float2*>(place));
  return {pair.x, pair.y};
}

/// Past the first-level cache, which may hold what stood there before another block wrote.
__device__ inline HeadPlan load_plan(const HeadPlan* place) {
  static_assert(sizeof(HeadPlan) == 2 * sizeof(int4));
  HeadPlan plan;
  auto* halves = reinterpret_cast<int4*>(&plan);
  halves[0] = __ldcg(reinterpret_cast<const int4*>(place));
  halves[1] = __ldcg(reinterpret_cast<const int4*>(place) + 1);
  return plan;
}

/// How one warp goes through values [chunks, group]: lane `part` · group + `head` takes every
/// parts-th chunk of its head, a few at a time, so that the latencies of loads overlap. What it
/// returns is complete in the lanes of part 0, one a head.
struct HeadLanes {
  static constexpr int kBatch = 8;
  int group;
  int parts;
  int head;
  int part;
  bool active;

  __device__ HeadLanes(int heads, int lane)
      : group(heads),
        parts(kWarpThreads / heads),
        head(lane % heads),
        part(lane / heads),
        active(lane / heads < parts) {}

  /// take(value, whether it counts) for each value of the lane.
  template <class Load, class Take>
  __device__ void visit(int chunks, const Load& load, const Take& take) const {
    for (int begin = part; begin < chunks; begin += kBatch * parts) {
      decltype(load(0)) values[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        values[i] = load(min(begin + i * parts, chunks - 1) * group + head);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) take(values[i], active && begin + i * parts < chunks);
    }
  }

  /// Sum over the parts, in order.
  template <class V>
  __device__ V sum(V value) const {
    V total = value;
    for (int other = 1; other < parts; ++other) {
      total += __shfl_sync(kAllLanes, value, (head + (part + other) * group) % kWarpThreads);
    }
    return total;
  }
};

/// Maximum and Σ 2^(score − maximum) of each head over all its items.
__device__ inline ItemSum sum_items(const ItemSum* sums, int chunks, const HeadLanes& lanes) {
  ItemSum all{-__builtin_huge_valf(), 0};
  const auto add = [&all](ItemSum more) {
    const float maximum = fmaxf(all.maximum, more.maximum);
    const float reference = finite_reference(maximum);
    all.sum = all.sum * exp2_fast(all.maximum - reference) +
              more.sum * exp2_fast(more.maximum - reference);
    all.maximum = maximum;
  };
  lanes.visit(
      chunks, [&](int i) { return load_sum(sums + i); },
      [&](ItemSum sum, bool counts) {
        add(counts ? sum : ItemSum{-__builtin_huge_valf(), 0});
      });
  const ItemSum mine = all;
  for (int other = 1; other < lanes.parts; ++other) {
    const int lane = (lanes.head + (lanes.part + other) * lanes.group) % kWarpThreads;
    const float maximum = __shfl_sync(kAllLanes, mine.maximum, lane);
    const float sum = __shfl_sync(kAllLanes, mine.sum, lane);
    add({maximum, sum});
  }
  return all;
}

/// The lowest key with the highest score, by one warp.
__device__ inline int highest_key(const float* scores, int length, int group, float maximum,
                                  int lane) {
  unsigned lowest = 0xffffffffU;
  for (int key = lane; key < length; key += kWarpThreads) {
    const float score = __ldcg(scores + static_cast<std::int64_t>(key) * group);
    if (score == maximum) {
      lowest = static_cast<unsigned>(key);
      break;
    }
  }
  return static_cast<int>(__reduce_min_sync(kAllLanes, lowest));
}

/// Thresholds of all heads of one KV head, once all its scores are there. By one warp.
__device__ inline void plan_unit(const DecodeArguments& a, const DecodeWorkspace& w,
                                 const ItemPlace& place, int lane) {
  const int group = a.heads / a.kv_heads;
  const std::int64_t first_item = place.first_item;
  const HeadLanes lanes(group, lane);
  const ItemSum all = sum_items(w.item_sums + first_item * group, place.items, lanes);
  const int head = place.request * a.heads + place.kv_head * group + lanes.head;
  HeadPlan plan;
  plan.maximum = all.maximum;
  plan.log_sum_exp = finite_reference(all.maximum) + log2f(all.sum);
  plan.threshold = a.thresholds[head] + plan.log_sum_exp;
  const bool forces = a.sink > 0 || a.recent > 0;
  plan.empty = !(plan.maximum > plan.threshold) && !forces ? 1 : 0;
  const bool leads = lane < group;
  unsigned keeps_one =
      __ballot_sync(kAllLanes, leads && plan.empty != 0 && a.empty == EmptyHead::highest);
  for (; keeps_one != 0; keeps_one &= keeps_one - 1) {
    const int i = __ffs(static_cast<int>(keeps_one)) - 1;
    const float maximum = __shfl_sync(kAllLanes, plan.maximum, i);
    const int key = highest_key(w.scores + std::int64_t{place.first_chunk} * kChunkKeys * group + i,
                                a.lengths[place.request], group, maximum, lane);
    if (lane == i) plan.only_key = key;
  }
  if (!leads) return;
  w.plans[head] = plan;
  if (a.log_sum_exp != nullptr) a.log_sum_exp[head] = plan.log_sum_exp;
}

/// Sums what the items of each sifted head kept.
__device__ inline HeadFacts sum_kept(const ItemKept* items, int chunks, const HeadLanes& lanes) {
  HeadFacts facts;
  lanes.visit(
      chunks,
      [&](int i) {
        return ItemKept{__ldcg(&items[i].kept), __ldcg(&items[i].kept_eligible),
                        __ldcg(&items[i].mass)};
      },
      [&](ItemKept item, bool counts) {
        facts.kept += counts ? item.kept : 0;
        facts.kept_eligible += counts ? item.kept_eligible : 0;
        facts.kept_mass += counts ? item.mass : 0;
      });
  facts.kept = lanes.sum(facts.kept);
  facts.kept_eligible = lanes.sum(facts.kept_eligible);
  facts.kept_mass = lanes.sum(facts.kept_mass);
  return facts;
}

/// What each head's partial results are multiplied with, and, sifted, the weight of the mean of V,
/// or, dense, what the results have to be made relative to. By one warp.
__device__ inline float2 head_factors(const DecodeArguments& a, const DecodeWorkspace& w,
                                      const ItemPlace& place, bool sifted, int lane) {
  const int group = a.heads / a.kv_heads;
  const HeadLanes lanes(group, lane);
  const int head = place.request * a.heads + place.kv_head * group + lanes.head;
  const std::int64_t first = std::int64_t{place.first_item} * group;
  const bool leads = lane < group;
  if (!sifted) {
    const ItemSum all = sum_items(w.item_sums + first, place.items, lanes);
    if (leads && a.log_sum_exp != nullptr) {
      a.log_sum_exp[head] = finite_reference(all.maximum) + log2f(all.sum);
    }
    return {1.0F / all.sum, all.maximum};
  }
  const HeadPlan plan = load_plan(w.plans + head);
  HeadFacts facts = sum_kept(w.item_kept + first, place.items, lanes);
  float scale = exp2_fast(finite_reference(plan.maximum) - plan.log_sum_exp);
  facts.kept_mass *= scale;
  facts.empty = plan.empty;
  if (leads && a.head_facts != nullptr) a.head_facts[head] = facts;
  float mean_weight = 0;
  if (a.compensation == Compensation::renormalise && facts.kept_mass > 0) scale /= facts.kept_mass;
  if (a.compensation == Compensation::mean) mean_weight = fmaxf(0.0F, 1.0F - facts.kept_mass);
  return {scale, mean_weight};
}

/// Sums the rows that one KV head's items read. By one warp.
__device__ inline void sum_rows(const DecodeArguments& a, const DecodeWorkspace& w,
                                const ItemPlace& place, int lane) {
  const HeadLanes lanes(1, lane);
  GroupFacts facts;
  const GroupFacts* items = w.item_rows + place.first_item;
  lanes.visit(
      place.items,
      [&](int i) {
        return GroupFacts{__ldcg(&items[i].rows), __ldcg(&items[i].rows_eligible)};
      },
      [&](GroupFacts item, bool counts) {
        facts.rows += counts ? item.rows : 0;
        facts.rows_eligible += counts ? item.rows_eligible : 0;
      });
  facts.rows = lanes.sum(facts.rows);
  facts.rows_eligible = lanes.sum(facts.rows_eligible);
  if (lane == 0) a.group_facts[place.request * a.kv_heads + place.kv_head] = facts;
}

/// Sum of four neighbouring partial results over the items, in the order of their keys. Those of
/// dense items are relative to their items' maxima and become relative to `reference`.
template <bool kSifted>
__device__ inline float4 add_partials(const DecodeWorkspace& w, const ItemPlace& place, int group,
                                      int head_dim, int index, float reference) {
  const std::int64_t first = place.first_item;
  const int size = group * head_dim;
  const float* partial = w.partials + first * size + index;
  const ItemSum* sums = w.item_sums + first * group + index / head_dim;
  constexpr int kBatch = 8;  // loads whose latencies overlap
  float4 sum = {0, 0, 0, 0};
  for (int begin = 0; begin < place.items; begin += kBatch) {
    float4 part[kBatch];
    float factor[kBatch];
#pragma unroll
    for (int c = 0; c < kBatch; ++c) {
      const int chunk = min(begin + c, place.items - 1);
      part[c] = __ldcg(reinterpret_cast<const float4*>(partial + chunk * size));
      factor[c] = 0;
      if constexpr (!kSifted) factor[c] = __ldcg(&sums[chunk * group].maximum);
    }
#pragma unroll
    for (int c = 0; c < kBatch; ++c) {
      // A factor of zero, not a branch: behind a branch the loads would wait for each other.
      factor[c] = begin + c >= place.items ? 0.0F
                  : kSifted                ? 1.0F
                                           : exp2_fast(finite_reference(factor[c]) - reference);
      sum.x += part[c].x * factor[c];
      sum.y += part[c].y * factor[c];
      sum.z += part[c].z * factor[c];
      sum.w += part[c].w * factor[c];
    }
  }
  return sum;
}

/// Adds the partial results of one KV head's items in the order of their keys and writes the
/// output. By all consumer threads. `factors` is shared memory for one pair a head.
template <class T, int kDim>
__device__ void merge_unit(const DecodeArguments& a, const DecodeWorkspace& w,
                           const ItemPlace& place, bool sifted, float2* factors) {
  const int group = a.heads / a.kv_heads;
  const int warp = threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  if (warp == 0) {
    const float2 mine = head_factors(a, w, place, sifted, lane);
    if (lane < group) factors[lane] = mine;
  } else if (warp == 1 && sifted && a.group_facts != nullptr) {
    sum_rows(a, w, place, lane);
  }
  named_barrier(kConsumerBarrier, kConsumerThreads);
  for (int index = 4 * threadIdx.x; index < group * kDim; index += 4 * kConsumerThreads) {
    const int i = index / kDim;
    float4 sum =
        sifted ? add_partials<true>(w, place, group, kDim, index, 0)
               : add_partials<false>(w, place, group, kDim, index, finite_reference(factors[i].y));
    float* values = &sum.x;
    const std::int64_t unit = place.request * a.kv_heads + place.kv_head;
    const std::int64_t row = place.request * a.heads + place.kv_head * group;
    T* output = static_cast<T*>(a.output) + row * kDim + index;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[j] *= factors[i].x;
      if (sifted && a.compensation == Compensation::mean) {
        values[j] += factors[i].y * a.value_means[unit * kDim + index % kDim + j];
      }
      output[j] = Format<T>::from_float(values[j]);
    }
  }
}

}  // namespace sift::cuda
