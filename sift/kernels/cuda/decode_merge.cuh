#pragma once

#include "sift/kernels/cuda/decode_items.cuh"
#include "sift/kernels/cuda/decode_sums.cuh"

namespace sift::cuda {

inline constexpr int kMergeThreads = 512;

/// Items of the requests before one, and of all. By one warp; every lane gets them.
__device__ inline ItemCounts counts_before(const DecodeArguments& a, int request, int lane,
                                           ItemCounts& all) {
  ItemCounts before;
  for (int b = lane; b < a.batch; b += kWarpThreads) {
    const ItemCounts counts = counts_of(a, __ldcg(a.lengths + b), mode_of(a, b));
#pragma unroll
    for (int kind = 0; kind < kItemKinds; ++kind) {
      all.of[kind] += counts.of[kind];
      before.of[kind] += b < request ? counts.of[kind] : 0;
    }
  }
#pragma unroll
  for (int kind = 0; kind < kItemKinds; ++kind) {
    all.of[kind] = sum_lanes(all.of[kind]) * a.kv_heads;
    before.of[kind] = sum_lanes(before.of[kind]) * a.kv_heads;
  }
  return before;
}

/// What one KV head of one request left to be put together.
struct UnitResults {
  int request;
  int kv_head;
  int group;
  bool sifted;
  int items;  ///< of values, or dense ones
  int step;   ///< from one to the next among partial results
  std::int64_t first_partial;
  std::int64_t first_sum;  ///< of dense items
};

__device__ inline UnitResults unit_results(const DecodeArguments& a, int unit, int lane) {
  UnitResults u;
  u.request = unit / a.kv_heads;
  u.kv_head = unit % a.kv_heads;
  u.group = a.heads / a.kv_heads;
  const int length = __ldcg(a.lengths + u.request);
  u.sifted = mode_of(a, u.request) == RequestMode::sift;
  ItemCounts all;
  const ItemCounts before = counts_before(a, u.request, lane, all);
  u.items = (u.sifted ? value_cut(length, estimates(a)) : dense_cut(length)).items(length);
  u.step = u.sifted ? a.kv_heads : 1;
  const int among =
      u.sifted ? before.of[kValues] + u.kv_head : before.dense() + u.kv_head * u.items;
  u.first_partial = u.sifted ? among : all.of[kValues] + among;
  u.first_sum = all.of[kScores] + among;
  return u;
}

/// What a head's partial results are multiplied with and made relative to, and the weight of the
/// mean of V.
struct HeadFactors {
  float scale;
  float reference;
  float mean;
};

/// Facts of one sifted head, and what follows from them. By one warp.
__device__ inline HeadFactors sifted_factors(const DecodeArguments& a, const DecodeWorkspace& w,
                                             const UnitResults& u, int i, int lane) {
  const int head = u.request * a.heads + u.kv_head * u.group + i;
  float mass = 0;
  for (int item = lane; item < u.items; item += kWarpThreads) {
    mass += w.item_masses[(u.first_partial + item * u.step) * u.group + i];
  }
  const HeadPlan plan = w.plans[head];
  HeadFactors factors = {exp2_fast(finite_reference(plan.maximum) - plan.log_sum_exp), 0, 0};
  StepHeadFacts facts;
  facts.kept_mass = sum_lanes(mass) * factors.scale;
  facts.empty = plan.empty;
  if (lane == 0) {
    facts.kept = w.kept[head].kept;
    facts.kept_eligible = w.kept[head].kept_eligible;
    w.kept[head] = {};
    if (a.head_facts != nullptr) a.head_facts[head] = facts;
    if (a.log_sum_exp != nullptr) a.log_sum_exp[head] = plan.log_sum_exp;
    if (a.method.head_states != nullptr) {
      observe_head(a.method, u.request, u.kv_head * u.group + i,
                   {facts.kept, facts.kept_eligible, facts.kept_mass, facts.empty != 0});
    }
  }
  if (a.compensation == Compensation::renormalise && facts.kept_mass > 0) {
    factors.scale /= facts.kept_mass;
  }
  if (a.compensation == Compensation::mean) factors.mean = fmaxf(0.0F, 1.0F - facts.kept_mass);
  return factors;
}

__device__ inline HeadFactors dense_factors(const DecodeArguments& a, const DecodeWorkspace& w,
                                            const UnitResults& u, int i, int lane) {
  ItemSum all{-__builtin_huge_valf(), 0};
  for (int item = lane; item < u.items; item += kWarpThreads) {
    all = join(all, w.item_sums[(u.first_sum + item) * u.group + i]);
  }
  all = join_lanes(all);
  if (lane == 0) {
    const int head = u.request * a.heads + u.kv_head * u.group + i;
    const float log_sum_exp = finite_reference(all.maximum) + log2f(all.sum);
    w.log_sum_exp[head] = log_sum_exp;
    if (a.log_sum_exp != nullptr) a.log_sum_exp[head] = log_sum_exp;
  }
  return {1.0F / all.sum, finite_reference(all.maximum), 0};
}

/// Sum of four neighbouring partial results over items [begin, end). Those of dense items are
/// relative to their items' maxima and become relative to `reference`.
__device__ inline float4 add_partials(const DecodeWorkspace& w, const UnitResults& u, int head_dim,
                                      int index, int begin, int end, float reference) {
  const int size = u.group * head_dim;
  const float* partial = w.partials + u.first_partial * size + index;
  const ItemSum* sums = w.item_sums + u.first_sum * u.group + index / head_dim;
  constexpr int kBatch = 8;  // loads whose latencies overlap
  float4 sum = {0, 0, 0, 0};
  for (int first = begin; first < end; first += kBatch) {
    float4 part[kBatch];
    float factor[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int i = min(first + k, end - 1);
      part[k] = *reinterpret_cast<const float4*>(partial + std::int64_t{i} * u.step * size);
      factor[k] = reference;
      if (!u.sifted) factor[k] = sums[std::int64_t{i} * u.group].maximum;
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      // A factor of zero, not a branch: behind a branch the loads would wait for each other.
      const float by = first + k >= end ? 0.0F
                       : u.sifted       ? 1.0F
                                        : exp2_fast(finite_reference(factor[k]) - reference);
      sum.x += part[k].x * by;
      sum.y += part[k].y * by;
      sum.z += part[k].z * by;
      sum.w += part[k].w * by;
    }
  }
  return sum;
}

template <class T, int kDim>
__device__ void write_output(const DecodeArguments& a, const UnitResults& u, int index, float4 sum,
                             const HeadFactors& factors) {
  const std::int64_t unit = u.request * a.kv_heads + u.kv_head;
  const std::int64_t row = u.request * a.heads + u.kv_head * u.group;
  T* output = static_cast<T*>(a.output) + row * kDim + index;
  const float values[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    float value = values[j] * factors.scale;
    if (u.sifted && a.compensation == Compensation::mean) {
      value += factors.mean * a.value_means[unit * kDim + index % kDim + j];
    }
    output[j] = Format<T>::from_float(value);
  }
}

/// Puts the results of all items of a unit together, in the order of their keys, and leaves the
/// counters as the next step wants them. One block a unit.
template <class T, int kDim>
__global__ void __launch_bounds__(kMergeThreads)
    merge_kernel(const __grid_constant__ DecodeArguments a,
                 const __grid_constant__ DecodeWorkspace w) {
  __shared__ UnitResults shared_unit;
  __shared__ HeadFactors factors[kMaximumGroup];
  __shared__ float4 slices[kMergeThreads];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpThreads;
  const int warp = thread / kWarpThreads;
  let_next_kernel_begin();
  if (warp == 0) {
    const UnitResults u = unit_results(a, static_cast<int>(blockIdx.x), lane);
    if (lane == 0) shared_unit = u;
  }
  __syncthreads();
  const UnitResults u = shared_unit;
  wait_for_previous_kernel();
  for (int i = warp; i < u.group; i += kMergeThreads / kWarpThreads) {
    const HeadFactors mine =
        u.sifted ? sifted_factors(a, w, u, i, lane) : dense_factors(a, w, u, i, lane);
    if (lane == 0) factors[i] = mine;
  }
  __syncthreads();
  // Several slices of the items side by side where there are threads for them.
  const int vectors = u.group * kDim / 4;
  const int slice_count = max(1, kMergeThreads / vectors);
  const int per_slice = (u.items + slice_count - 1) / slice_count;
  for (int first = 0; first < vectors; first += kMergeThreads) {
    const int vector = first + thread % min(vectors, kMergeThreads);
    const int slice = slice_count == 1 ? 0 : thread / vectors;
    const bool active = vector < vectors && slice < slice_count;
    float4 sum = {0, 0, 0, 0};
    if (active) {
      const int begin = min(slice * per_slice, u.items);
      const int end = min(begin + per_slice, u.items);
      sum = add_partials(w, u, kDim, 4 * vector, begin, end, factors[4 * vector / kDim].reference);
    }
    slices[thread] = sum;
    __syncthreads();
    if (active && slice == 0) {
      for (int other = 1; other < slice_count; ++other) {
        const float4 more = slices[thread + other * vectors];
        sum = {sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w};
      }
      write_output<T, kDim>(a, u, 4 * vector, sum, factors[4 * vector / kDim]);
    }
    __syncthreads();
  }
  if (thread == kMergeThreads - 1) {
    UnitProgress& progress = w.units[blockIdx.x];
    if (a.group_facts != nullptr) {
      a.group_facts[blockIdx.x] = {progress.rows, progress.rows_eligible, progress.candidates};
    }
    if (a.method.head_states != nullptr) {
      if (u.sifted) {
        observe_group(a.method, u.request, u.kv_head,
                      {progress.rows, progress.rows_eligible, progress.candidates});
      } else {
        observe_dense(a.method, u.request, u.kv_head);
      }
    }
    progress = {};
    if (blockIdx.x == 0) *w.step = {};
  }
}

}  // namespace sift::cuda
