#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"
#include "sift/kernels/cuda/decode_shadow.cuh"
#include "sift/kernels/cuda/decode_sums.cuh"

namespace sift::cuda {

/// The tiles of 16 keys of an item that one warp reads: every kBlockWarps-th.
struct WarpTiles {
  static constexpr int kStep = kBlockWarps * kTileKeys;  ///< keys from one to the next
  int first;                                             ///< key
  int count;
  int page;  ///< of tile `lane`

  /// Those from key `first_key` on, at most 32.
  __device__ WarpTiles(const RowFinder& rows, const Item& item, int first_key, int lane)
      : first(first_key),
        count(min(kWarpThreads, (item.end - first_key + kStep - 1) / kStep)),
        page(rows.page(min(first_key + lane * kStep, item.end - 1))) {}

  __device__ int key(int tile) const { return first + tile * kStep; }
  /// The page of a tile; asked well before it is needed.
  __device__ int page_of(int tile) const { return __shfl_sync(kAllLanes, page, tile); }
};

/// Keys of one warp, by which scores are exact: tiles are on their way to shared memory.
template <class T, int kDim, int kHeadTiles>
class KeySource {
 public:
  static constexpr bool kEstimates = false;
  static constexpr int kStages = kDim > 128 ? 2 : kDim > 64 ? 3 : 4;
  using Ring = TileRing<kDim, kStages>;
  using Memory = typename Ring::Memory;

  __device__ KeySource(const DecodeArguments& a, int group, const Item& item, Memory& memory,
                       const LanePlace& at)
      : keys_(static_cast<const char*>(a.cache.keys) + item.kv_head * a.cache.head_stride),
        cache_(a.cache),
        rows_(a.cache, item.request),
        end_(item.end),
        scale_(a.scale * kLog2EFloat),
        at_(at),
        ring_(memory, at.lane, read_once_policy()) {
    query_.load(static_cast<const T*>(a.query) +
                    std::int64_t{item.request * a.heads + item.kv_head * group} * kDim,
                group, at);
  }

  /// Calls take(scores, key) with the scores of each tile, as multiply_by_key has them.
  template <class Take>
  __device__ void for_each_tile(const WarpTiles& tiles, const Take& take) {
    int issued = 0;
    int page = tiles.page_of(0);
    const auto issue = [&] {
      const int key = tiles.key(issued);
      ring_.issue(end_ - key, keys_ + std::uint64_t{rows_.offset(cache_, page, key)} * 16,
                  cache_.slot_stride);
      page = tiles.page_of(++issued % kWarpThreads);
    };
    for (int tile = 0; tile < tiles.count; ++tile) {
      while (issued < tiles.count && ring_.has_room()) issue();
      float scores[kHeadTiles][4] = {};
      multiply_by_key<T>(scores, query_, ring_.wait(), at_);
      ring_.release();
#pragma unroll
      for (auto& of_heads : scores) {
#pragma unroll
        for (float& score : of_heads) score *= scale_;
      }
      take(scores, tiles.key(tile));
    }
  }

 private:
  const char* keys_;
  const CacheAddress& cache_;
  RowFinder rows_;
  int end_;
  float scale_;
  LanePlace at_;
  QueryTile<kDim, kHeadTiles> query_;
  Ring ring_;
};

/// Shadows of the keys of one warp, by which scores are estimated, likewise. kBlock: values that
/// share a scale, or 0 for fp8.
template <class T, int kDim, int kHeadTiles, int kBlock>
class ShadowSource {
  using Rows = ShadowRows<kDim, kBlock>;

 public:
  static constexpr bool kEstimates = true;
  static constexpr int kStages = kDim > 128 ? 3 : 4;
  using Ring = BlockRing<Rows::kTileBytes, kStages>;
  using Memory = typename Ring::Memory;

  __device__ ShadowSource(const DecodeArguments& a, int group, const Item& item, Memory& memory,
                          const LanePlace& at)
      : tiles_(static_cast<const char*>(a.shadows.tiles) + item.kv_head * a.shadows.head_stride),
        page_units_(static_cast<std::uint32_t>(a.shadows.page_stride / 16)),
        rows_(a.cache, item.request),
        at_(at),
        ring_(memory, at.lane, read_once_policy()) {
    query_.load(static_cast<const T*>(a.query) +
                    std::int64_t{item.request * a.heads + item.kv_head * group} * kDim,
                group, a.shadows.format.order, a.scale * kLog2EFloat, Rows::kOdd, at);
  }

  /// As KeySource::for_each_tile.
  template <class Take>
  __device__ void for_each_tile(const WarpTiles& tiles, const Take& take) {
    int issued = 0;
    int page = tiles.page_of(0);
    for (int tile = 0; tile < tiles.count; ++tile) {
      while (issued < tiles.count && ring_.has_room()) {
        ring_.issue(address(page, tiles.key(issued)));
        page = tiles.page_of(++issued % kWarpThreads);
      }
      Rows rows;
      rows.load(ring_.wait(), at_);
      float scores[kHeadTiles][4];
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) rows.multiply(scores[h], query_, h);
      ring_.release();
      take(scores, tiles.key(tile));
    }
  }

 private:
  __device__ const char* address(int page, int key) const {
    const std::uint32_t tile = static_cast<std::uint32_t>(rows_.slot(key)) / kShadowTileKeys;
    return tiles_ + std::uint64_t{static_cast<std::uint32_t>(page) * page_units_ +
                                  tile * (Rows::kTileBytes / 16)} *
                        16;
  }

  const char* tiles_;
  std::uint32_t page_units_;
  RowFinder rows_;
  LanePlace at_;
  ShadowQuery<kDim, kHeadTiles> query_;
  Ring ring_;
};

/// Shared memory of a block of the scores' kernel.
template <class Source>
struct ScoresShared {
  typename Source::Memory memory[kBlockWarps];
  ItemSum sums[kBlockWarps][kMaximumGroup];
  ItemLoopShared loop;  ///< last: only the entries of requests that there are have memory
};

/// Scores of one item after another, exact (KeySource) or estimated (ShadowSource), and their
/// maxima and sums.
template <class Source, int kHeadTiles>
class ScoreWorker {
 public:
  using Shared = ScoresShared<Source>;
  static constexpr Work kWork = Work::scores;

  __device__ ScoreWorker(const DecodeArguments& a, const DecodeWorkspace& w, Shared& shared)
      : a_(a),
        w_(w),
        shared_(shared),
        at_(static_cast<int>(threadIdx.x)),
        warp_(static_cast<int>(threadIdx.x) / kWarpThreads),
        group_(w.group) {}

  __device__ void work(const Item& item) {
    LaneSums<kHeadTiles> sums;
    sums.clear();
    const RowFinder rows(a_.cache, item.request);
    const int first = item.begin + warp_ * kTileKeys;
    WarpTiles tiles(rows, item, first, at_.lane);
    Source source(a_, group_, item, shared_.memory[warp_], at_);
    stride_ = score_stride(item.length);
    scores_ = w_.scores + item.scores * group_ + 2 * at_.t * stride_ + at_.g;
    const auto take = [&](float(&scores)[kHeadTiles][4], int key) {
      hide_behind(scores, key, item.end);
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) sums.add(scores[h], h);
      store(scores, key);
    };
    for (int key = first; key < item.end; key += kWarpThreads * WarpTiles::kStep) {
      if (key > first) tiles = WarpTiles(rows, item, key, at_.lane);
      source.for_each_tile(tiles, take);
    }
    end(item, sums);
  }

 private:
  // −∞ for keys from `end` on.
  __device__ void hide_behind(float (&scores)[kHeadTiles][4], int key, int end) const {
    if (key + kTileKeys <= end) return;
#pragma unroll
    for (auto& of_heads : scores) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (key + at_.g + 8 * (i / 2) >= end) of_heads[i] = -__builtin_huge_valf();
      }
    }
  }

  __device__ void store(const float (&scores)[kHeadTiles][4], int key) const {
    const std::uint64_t policy = keep_policy();
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (8 * h + 2 * at_.t + j >= group_) continue;
        float* to = scores_ + (8 * h + j) * stride_ + key;
        cuda::store(to, scores[h][j], policy);
        cuda::store(to + 8, scores[h][j + 2], policy);
      }
    }
  }

  __device__ void end(const Item& item, LaneSums<kHeadTiles>& sums) const {
    sums.share(shared_.sums[warp_], at_.lane);
    __syncthreads();
    if (warp_ != 0 || at_.lane >= group_) return;
    ItemSum all = shared_.sums[0][at_.lane];
    for (int other = 1; other < kBlockWarps; ++other) {
      all = join(all, shared_.sums[other][at_.lane]);
    }
    w_.item_sums[std::int64_t{item.number} * group_ + at_.lane] = all;
  }

  const DecodeArguments& a_;
  const DecodeWorkspace& w_;
  Shared& shared_;
  LanePlace at_;
  int warp_;
  int group_;
  int stride_ = 0;
  float* scores_ = nullptr;  // of the lane's first head and row of a tile
};

}  // namespace sift::cuda
