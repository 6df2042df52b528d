#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"
#include "sift/kernels/cuda/decode_selection.cuh"

namespace sift::cuda {

/// Shared memory of a block of the candidates' kernel.
template <int kDim, int kMostHeads>
struct CandidatesShared {
  static constexpr int kStages = gather_stages<kDim>();

  typename TileRing<kDim, kStages>::Memory tiles[kBlockWarps];
  SelectedRows<kMostHeads, Selects::candidates> selected[kBlockWarps];
  ItemSum candidates[kBlockWarps][kMaximumGroup];
  ItemSum others[kBlockWarps][kMaximumGroup];
  ItemLoopShared loop;  ///< last: only the entries of requests that there are have memory
};

/// Exact scores of the keys that estimates select, of one item after another. They take the places
/// of the estimates of a warp's part, from its first on, the scores of heads whose candidate a key
/// is not being −∞; and their sums and those of the other estimates follow.
template <class T, int kDim, int kMostHeads>
class CandidateWorker {
 public:
  using Shared = CandidatesShared<kDim, kMostHeads>;
  static constexpr Work kWork = Work::candidates;

  __device__ CandidateWorker(const DecodeArguments& a, const DecodeWorkspace& w, Shared& shared)
      : a_(a), w_(w), shared_(shared), at_(static_cast<int>(threadIdx.x)), group_(w.group) {}

  __device__ void work(const Item& item) {
    const WarpPart part = part_of_keys(item, warp());
    query_.load(static_cast<const T*>(a_.query) +
                    std::int64_t{item.request * a_.heads + item.kv_head * group_} * kDim,
                group_, at_);
    sums_.clear();
    place_ = part.begin;
    Selector selector(a_, w_, shared_.selected[warp()], item, warp(), part, at_.lane);
    // Whoever looks for the highest estimate of an item of scores reads those of other warps'
    // parts, which exact scores are about to replace.
    if (selector.any_empty()) __syncthreads();
    TileRing<kDim, Shared::kStages> ring(shared_.tiles[warp()], at_.lane, read_once_policy());
    const char* side =
        static_cast<const char*>(a_.cache.keys) + item.kv_head * a_.cache.head_stride;
    while (true) {
      while (ring.has_room() && selector.fill()) {
        ring.issue(side, shared_.selected[warp()].offsets + selector.take());
      }
      if (ring.count() == 0) break;
      const int place = selector.place(ring.count());
      score(item, ring.wait(), place, selector.count(ring.count()));
      ring.release();
    }
    end(item, selector);
  }

 private:
  static constexpr int kHeadTiles = kMostHeads > 8 ? 2 : 1;
  using Selector = RowSelector<kMostHeads, Selects::candidates>;

  __device__ int warp() const { return static_cast<int>(threadIdx.x) / kWarpThreads; }

  // Lists `count` of 16 rows, which have place `place`, and their exact scores.
  __device__ void score(const Item& item, const char* tile, int place, int count) {
    const auto& selected = shared_.selected[warp()];
    const unsigned heads[2] = {selected.heads[place + at_.g], selected.heads[place + at_.g + 8]};
    if (at_.lane < count) {
      w_.candidate_rows[item.scores + place_ + at_.lane] = {selected.offsets[place + at_.lane],
                                                            selected.keys[place + at_.lane]};
    }
    float products[kHeadTiles][4] = {};
    multiply_by_key<T>(products, query_, tile, at_);
    float* scores = w_.scores + item.scores * group_ + place_;
    const int stride = score_stride(item.length);
    const float scale = a_.scale * kLog2EFloat;
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int head = 8 * h + 2 * at_.t + i % 2;
        const bool is_candidate = (heads[i / 2] >> head & 1U) != 0;
        products[h][i] = is_candidate ? products[h][i] * scale : -__builtin_huge_valf();
      }
      sums_.add(products[h], h);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = at_.g + 8 * (i / 2);
        const int head = 8 * h + 2 * at_.t + i % 2;
        if (row < count && head < group_) scores[head * stride + row] = products[h][i];
      }
    }
    place_ += count;
  }

  __device__ void end(const Item& item, const Selector& selector) {
    share(selector);
    if (at_.lane == 0) {
      w_.candidate_counts[std::int64_t{item.number} * kBlockWarps + warp()] = selector.rows();
      atomicAdd(&w_.units[unit(item)].candidates, selector.rows());
    }
    __syncthreads();
    if (warp() != 0) return;
    if (at_.lane < group_) {
      RescoredSum all = {shared_.candidates[0][at_.lane], shared_.others[0][at_.lane]};
      for (int other = 1; other < kBlockWarps; ++other) {
        all.candidates = join(all.candidates, shared_.candidates[other][at_.lane]);
        all.others = join(all.others, shared_.others[other][at_.lane]);
      }
      w_.rescored_sums[std::int64_t{item.number} * group_ + at_.lane] = all;
    }
    __syncwarp();
    if (at_.lane == 0) count_release(&w_.units[unit(item)].candidate_items);
  }

  // Puts the sums of the warp's part where the block adds them.
  __device__ void share(const Selector& selector) {
    sums_.share(shared_.candidates[warp()], at_.lane);
    const auto& plans = shared_.selected[warp()].plans;
#pragma unroll
    for (int head = 0; head < kMostHeads; ++head) {
      if (head >= group_) continue;
      const float sum = sum_lanes(selector.others(head));
      if (at_.lane == head) {
        shared_.others[warp()][head] = {Selector::others_reference(plans[head]), sum};
      }
    }
  }

  __device__ int unit(const Item& item) const { return item.request * a_.kv_heads + item.kv_head; }

  const DecodeArguments& a_;
  const DecodeWorkspace& w_;
  Shared& shared_;
  LanePlace at_;
  int group_;
  int place_ = 0;  // of the next candidate among the entries of the unit
  QueryTile<kDim, kHeadTiles> query_;
  LaneSums<kHeadTiles> sums_;
};

}  // namespace sift::cuda
