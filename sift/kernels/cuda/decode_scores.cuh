#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"
#include "sift/kernels/cuda/decode_plan.cuh"
#include "sift/kernels/cuda/decode_shadow.cuh"

namespace sift::cuda {

/// Where a warp reads keys for exact scores.
template <class T, int kDim, int kHeadTiles>
class KeySource {
 public:
  static constexpr bool kEstimates = false;
  using Rows = KeyRows<kDim>;

  __device__ KeySource(const DecodeArguments& a, int group, const Item& item, const LanePlace& at)
      : keys_(static_cast<const char*>(a.cache.keys) + item.kv_head * a.cache.head_stride),
        page_stride_(a.cache.page_stride),
        rows_(a.cache, item.request),
        last_key_(item.end - 1),
        scale_(a.scale * kLog2EFloat),
        at_(at) {
    query_.load(static_cast<const T*>(a.query) +
                    std::int64_t{item.request * a.heads + item.kv_head * group} * kDim,
                group, at);
  }

  /// The tile whose first key `key` lies on `page`. Rows behind the last key may be anything.
  __device__ void load(Rows& rows, int key, int page) const {
    const char* of_page = keys_ + page * page_stride_ + rows_.in_page(key);
    int first = at_.g;
    int second = at_.g + 8;
    if (key + kTileKeys - 1 > last_key_) {
      first = min(first, last_key_ - key);
      second = min(second, last_key_ - key);
    }
    rows.load(of_page + first * rows_.slot_stride, of_page + second * rows_.slot_stride, at_);
  }
  __device__ void multiply(float (&scores)[4], const Rows& rows, int h) const {
    rows.template multiply<T>(scores, query_, h);
#pragma unroll
    for (float& score : scores) score *= scale_;
  }

 private:
  const char* keys_;
  std::int64_t page_stride_;
  RowFinder rows_;
  int last_key_;
  float scale_;
  LanePlace at_;
  GatherQuery<kDim, kHeadTiles> query_;
};

/// Where a warp reads shadows for estimates. kBlock: values that share a scale, or 0 for fp8.
template <class T, int kDim, int kHeadTiles, int kBlock>
class ShadowSource {
 public:
  static constexpr bool kEstimates = true;
  using Rows = ShadowRows<kDim, kBlock>;

  __device__ ShadowSource(const DecodeArguments& a, int group, const Item& item,
                          const LanePlace& at)
      : tiles_(static_cast<const char*>(a.shadows.tiles) + item.kv_head * a.shadows.head_stride),
        page_stride_(a.shadows.page_stride),
        rows_(a.cache, item.request),
        at_(at) {
    query_.load(static_cast<const T*>(a.query) +
                    std::int64_t{item.request * a.heads + item.kv_head * group} * kDim,
                group, a.shadows.format.order, a.scale * kLog2EFloat, Rows::kOdd, at);
  }

  __device__ void load(Rows& rows, int key, int page) const {
    const unsigned tile = static_cast<unsigned>(rows_.slot(key)) / kShadowTileKeys;
    rows.load(tiles_ + page * page_stride_ + std::uint64_t{tile} * Rows::kTileBytes, at_);
  }
  __device__ void multiply(float (&scores)[4], const Rows& rows, int h) const {
    rows.multiply(scores, query_, h);
  }

 private:
  const char* tiles_;
  std::int64_t page_stride_;
  RowFinder rows_;
  LanePlace at_;
  ShadowQuery<kDim, kHeadTiles> query_;
};

/// Shared memory of a block of the scores' kernel.
struct ScoresShared {
  ItemSum sums[kBlockWarps][kMaximumGroup];
  ItemLoopShared loop;  ///< last: only the entries of requests that there are have memory
};

/// Scores of one item after another, exact (KeySource) or estimated (ShadowSource), and their maxima
/// and sums. The warps of a block take tiles of 16 keys in turns; the next tile is on its way while
/// one is multiplied.
template <class Source, int kHeadTiles>
class ScoreWorker {
 public:
  using Shared = ScoresShared;
  static constexpr Work kWork = Work::scores;

  __device__ ScoreWorker(const DecodeArguments& a, const DecodeWorkspace& w, Shared& shared)
      : a_(a),
        w_(w),
        shared_(shared),
        at_(static_cast<int>(threadIdx.x)),
        warp_(static_cast<int>(threadIdx.x) / kWarpThreads),
        group_(w.group) {}

  __device__ void work(const Item& item) {
    end_ = item.end;
    sums_.clear();
    const RowFinder finder(a_.cache, item.request);
    const int first = item.begin + warp_ * kTileKeys;
    int pages = finder.page(min(first + at_.lane * kStep, end_ - 1));  // of one tile each lane
    const Source source(a_, group_, item, at_);
    const int stride = score_stride(item.length);
    scores_ = w_.scores + item.scores * group_ + 2 * at_.t * stride + at_.g;
    stride_ = stride;
    for (int key = first; key < end_; key += kLanesStep) {
      if (key > first) pages = finder.page(min(key + at_.lane * kStep, end_ - 1));
      work_on_tiles(source, key, min(kWarpThreads, (end_ - key + kStep - 1) / kStep), pages);
    }
    end(item);
  }

 private:
  using Rows = typename Source::Rows;
  static constexpr int kStep = kBlockWarps * kTileKeys;
  static constexpr int kLanesStep = kWarpThreads * kStep;

  __device__ void work_on_tiles(const Source& source, int first, int tiles, int pages) {
    Rows rows[2];
    const auto load = [&](Rows& to, int tile) {
      source.load(to, first + tile * kStep, __shfl_sync(kAllLanes, pages, tile));
    };
    load(rows[0], 0);
    for (int tile = 0; tile < tiles; tile += 2) {
      if (tile + 1 < tiles) load(rows[1], tile + 1);
      take(source, rows[0], first + tile * kStep);
      if (tile + 1 >= tiles) return;
      if (tile + 2 < tiles) load(rows[0], tile + 2);
      take(source, rows[1], first + (tile + 1) * kStep);
    }
  }

  __device__ void take(const Source& source, const Rows& rows, int key) {
    const bool is_whole = key + kTileKeys <= end_;
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      float scores[4] = {};
      source.multiply(scores, rows, h);
      if (!is_whole) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (key + at_.g + 8 * (i / 2) >= end_) scores[i] = -__builtin_huge_valf();
        }
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (8 * h + 2 * at_.t + j >= group_) continue;
        float* to = scores_ + (8 * h + j) * stride_ + key;
        to[0] = scores[j];
        to[8] = scores[j + 2];
      }
      sums_.add(scores, h);
    }
  }

  __device__ void end(const Item& item) {
    sums_.share(shared_.sums[warp_], at_.lane);
    __syncthreads();
    if (warp_ == 0) {
      if (at_.lane < group_) {
        ItemSum all = shared_.sums[0][at_.lane];
        for (int other = 1; other < kBlockWarps; ++other) {
          all = join(all, shared_.sums[other][at_.lane]);
        }
        w_.item_sums[std::int64_t{item.number} * group_ + at_.lane] = all;
      }
      UnitProgress& unit = w_.units[item.request * a_.kv_heads + item.kv_head];
      if (completes(&unit.scored, score_cut(item.length, Source::kEstimates).items(item.length), at_.lane)) {
        plan_unit<Source::kEstimates>(a_, w_, item, at_.lane);
      }
    }
  }

  const DecodeArguments& a_;
  const DecodeWorkspace& w_;
  Shared& shared_;
  LanePlace at_;
  int warp_;
  int group_;
  int end_ = 0;
  int stride_ = 0;
  float* scores_ = nullptr;  // of the lane's first head and row of a tile
  LaneSums<kHeadTiles> sums_;
};

}  // namespace sift::cuda
