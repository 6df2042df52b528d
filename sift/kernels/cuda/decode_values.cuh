#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"
#include "sift/kernels/cuda/decode_selection.cuh"

namespace sift::cuda {

/// Shared memory of a block of the values' kernel.
template <int kDim, int kMostHeads, bool kEstimates>
struct ValuesShared {
  static constexpr Selects kSelects = kEstimates ? Selects::candidate_keys : Selects::keys;
  static constexpr int kHeadsAdded = 4;     ///< at a time
  static constexpr int kStride = kDim + 4;  ///< keeps heads in different banks

  static constexpr int kStages = gather_stages<kDim>();

  /// A warp's tiles, and then its sums.
  union WarpMemory {
    typename TileRing<kDim, kStages>::Memory tiles;
    float sums[kHeadsAdded][kStride];
  };
  WarpMemory memory[kBlockWarps];
  SelectedRows<kMostHeads, kSelects> selected[kBlockWarps];
  float weights[kBlockWarps][kMaximumGroup];
  ItemLoopShared loop;  ///< last: only the entries of requests that there are have memory
};

/// Adds up the values of the keys that their scores select, of one item after another: each warp of
/// a quarter of the item's keys, then the block.
template <class T, int kDim, int kMostHeads, bool kEstimates>
class ValueWorker {
 public:
  using Shared = ValuesShared<kDim, kMostHeads, kEstimates>;
  static constexpr Work kWork = Work::values;

  __device__ ValueWorker(const DecodeArguments& a, const DecodeWorkspace& w, Shared& shared)
      : a_(a), w_(w), shared_(shared), at_(static_cast<int>(threadIdx.x)), group_(w.group) {}

  __device__ void work(const Item& item) {
    WarpPart part = part_of_keys(item, warp());
    if (kEstimates) {
      part.end = part.begin +
                 __ldcg(w_.candidate_counts + std::int64_t{item.number} * kBlockWarps + warp());
    }
    ValueSums<kDim, kHeadTiles> sums;
    sums.clear();
    float weights[kHeadTiles][4] = {};
    Selector selector(a_, w_, shared_.selected[warp()], item, warp(), part, at_.lane);
    float maxima[kHeadTiles];
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = min(8 * h + at_.g, group_ - 1);
      maxima[h] = shared_.selected[warp()].plans[head].maximum;
    }
    TileRing<kDim, Shared::kStages> ring(shared_.memory[warp()].tiles, at_.lane,
                                         read_once_policy());
    const char* side =
        static_cast<const char*>(a_.cache.values) + item.kv_head * a_.cache.head_stride;
    while (true) {
      while (ring.has_room() && selector.fill()) {
        ring.issue(side, shared_.selected[warp()].offsets + selector.take());
      }
      if (ring.count() == 0) break;
      const int place = selector.place(ring.count());
      add(sums, weights, ring.wait(), place, maxima);
      ring.release();
    }
    count(item, selector);
    write(item, sums, weights);
  }

 private:
  static constexpr int kHeadTiles = kMostHeads > 8 ? 2 : 1;
  using Sums = ValueSums<kDim, kHeadTiles>;
  using Selector = RowSelector<kMostHeads, Shared::kSelects>;

  __device__ int warp() const { return static_cast<int>(threadIdx.x) / kWarpThreads; }

  // Adds 16 rows, of which the scores have place `place`, by weights relative to the maxima of
  // heads 8 h + g; and the weights alone: [i] is that of head 8 h + 2t + i % 2.
  __device__ void add(Sums& sums, float (&weights)[kHeadTiles][4], const char* tile, int place,
                      const float (&maxima)[kHeadTiles]) const {
    const auto& selected = shared_.selected[warp()];
    const std::uint32_t one = Format<T>::pack(1, 1);
    const std::uint32_t ones[4] = {one, one, one, one};
    std::uint32_t pairs[kHeadTiles][2];
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = 8 * h + at_.g;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        pairs[h][half] = 0;
        if (head >= group_) continue;
        const auto* scores = &selected.scores[place + 8 * half + 2 * at_.t];
        pairs[h][half] = Format<T>::pack(exp2_fast(scores[0][head] - maxima[h]),
                                         exp2_fast(scores[1][head] - maxima[h]));
      }
      Format<T>::multiply_add(weights[h], ones, pairs[h][0], pairs[h][1]);
    }
    sums.template add<T>(tile, pairs, at_);
  }

  // Adds what was kept to the counters of the item's unit.
  __device__ void count(const Item& item, const Selector& selector) const {
    const int passing = selector.passing();
    const int forced = selector.forced();
    if (at_.lane < group_) {
      KeptCount& kept = w_.kept[item.request * a_.heads + item.kv_head * group_ + at_.lane];
      atomicAdd(&kept.kept, passing + forced);
      atomicAdd(&kept.kept_eligible, passing);
    }
    if (at_.lane == 0) {
      UnitProgress& unit = w_.units[item.request * a_.kv_heads + item.kv_head];
      atomicAdd(&unit.rows, selector.rows());
      atomicAdd(&unit.rows_eligible, selector.rows() - selector.forced_rows());
    }
  }

  // Adds the warps' sums, some heads at a time, and writes them as the item's partial result
  // [group, kDim]. Whole block.
  __device__ void write(const Item& item, const Sums& sums,
                        const float (&weights)[kHeadTiles][4]) const {
    if (at_.g == 0) {
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) {
        shared_.weights[warp()][8 * h + 2 * at_.t] = weights[h][0];
        shared_.weights[warp()][8 * h + 2 * at_.t + 1] = weights[h][1];
      }
    }
    float* partial = w_.partials + std::int64_t{item.partial} * group_ * kDim;
    for (int begin = 0; begin < group_; begin += Shared::kHeadsAdded) {
      if (begin > 0) __syncthreads();  // others may still read what is overwritten
      const int end = min(begin + Shared::kHeadsAdded, group_);
      share(sums, begin, end);
      __syncthreads();
      for (int i = 4 * static_cast<int>(threadIdx.x); i < (end - begin) * kDim;
           i += 4 * kBlockThreads) {
        float4 sum = {0, 0, 0, 0};
#pragma unroll
        for (int other = 0; other < kBlockWarps; ++other) {
          const float4 more =
              *reinterpret_cast<const float4*>(&shared_.memory[other].sums[i / kDim][i % kDim]);
          sum = {sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w};
        }
        *reinterpret_cast<float4*>(partial + begin * kDim + i) = sum;
      }
      if (begin == 0 && threadIdx.x < group_) {
        float mass = 0;
        for (const auto& of_warp : shared_.weights) mass += of_warp[threadIdx.x];
        w_.item_masses[std::int64_t{item.number} * group_ + threadIdx.x] = mass;
      }
    }
  }

  // Puts the warp's sums of some heads where the block adds them.
  __device__ void share(const Sums& sums, int begin, int end) const {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int head = 8 * h + 2 * at_.t + j;
        if (head < begin || head >= end) continue;
        float* to = shared_.memory[warp()].sums[head - begin];
#pragma unroll
        for (int strip = 0; strip < Sums::kStrips; ++strip) {
          to[16 * strip + at_.g] = sums.of[h][strip][j];
          to[16 * strip + at_.g + 8] = sums.of[h][strip][j + 2];
        }
      }
    }
  }

  const DecodeArguments& a_;
  const DecodeWorkspace& w_;
  Shared& shared_;
  LanePlace at_;
  int group_;
};

}  // namespace sift::cuda
