#pragma once

#include "sift/kernels/cuda/decode_item_loop.cuh"
#include "sift/kernels/cuda/decode_shadow.cuh"
#include "sift/kernels/cuda/decode_sums.cuh"

namespace sift::cuda {

/// The tiles of 16 keys of an item that one warp reads: two in a row, whose scores fill whole lines
/// of memory, of every kBlockWarps pairs.
struct WarpTiles {
  static constexpr int kPairKeys = 2 * kTileKeys;
  static constexpr int kStep = kBlockWarps * kPairKeys;       ///< keys from a pair to the next
  static constexpr int kMostKeys = kWarpThreads / 2 * kStep;  ///< of the item, in one go
  int first;                                                  ///< key
  int count;
  int page;  ///< of tile `lane`

  /// Those from `first_key` on, at most 32.
  __device__ WarpTiles(const RowFinder& rows, const Item& item, int first_key, int lane)
      : first(first_key) {
    const int keys = min(max(item.end - first, 0), kMostKeys);
    count = keys / kStep * 2 + min((keys % kStep + kTileKeys - 1) / kTileKeys, 2);
    page = rows.page(min(key(lane), item.end - 1));
  }

  __device__ int key(int tile) const { return first + tile / 2 * kStep + tile % 2 * kTileKeys; }
  /// The page of a tile; asked well before it is needed.
  __device__ int page_of(int tile) const { return __shfl_sync(kAllLanes, page, tile); }
  /// Whether no other tile of its pair comes after it.
  __device__ bool ends_pair(int tile) const { return tile % 2 == 1 || tile + 1 == count; }
};

/// Keys of one warp, by which scores are exact: tiles are on their way to shared memory.
template <class T, int kDim, int kHeadTiles>
class KeySource {
 public:
  /// Tiles whose scores a call of `take` has: of two, lanes 4g + t with t < 2 have the first one's.
  static constexpr int kSharing = 1;
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

  /// Calls take(scores, tile) with the scores of each tile, as multiply_by_key has them.
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
      take(scores, tile);
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

/// Shadows of the keys of one warp, by which scores are estimated, likewise. The next tiles are on
/// their way to registers. kBlock: values that share a scale, or 0 for fp8.
template <class T, int kDim, int kMostHeads, int kBlock>
class ShadowSource {
  using Tile = ShadowTile<kDim, kBlock>;
  static constexpr int kHeadTiles = kMostHeads > 8 ? 2 : 1;
  static constexpr int kTiles = Tile::kCodeWords > 4 ? 1 : 2;  // at once: as registers allow

 public:
  static constexpr int kSharing = kMostHeads > 4 ? 1 : kTiles;
  struct Memory {};

  __device__ ShadowSource(const DecodeArguments& a, int group, const Item& item, Memory&,
                          const LanePlace& at)
      : tiles_(static_cast<const char*>(a.shadows.tiles) + item.kv_head * a.shadows.head_stride),
        page_units_(static_cast<std::uint32_t>(a.shadows.page_stride / 16)),
        rows_(a.cache, item.request),
        at_(at),
        own_(kSharing == 2 ? at.t / 2 : 0),
        policy_(read_once_policy()) {
    query_.load(static_cast<const T*>(a.query) +
                    std::int64_t{item.request * a.heads + item.kv_head * group} * kDim,
                group, a.shadows.format.order, a.scale * kLog2EFloat, Tile::kOdd, at);
  }

  /// As KeySource::for_each_tile.
  template <class Take>
  __device__ void for_each_tile(const WarpTiles& tiles, const Take& take) {
    Tiles next;
    load(next, tiles, 0);
#pragma unroll 2
    for (int tile = 0; tile < tiles.count; tile += kTiles) {
      const Tiles now = next;
      if (tile + kTiles < tiles.count) load(next, tiles, tile + kTiles);
#pragma unroll
      for (int product = 0; product < Tiles::kProducts; ++product) {
        const int first = tile + product * kSharing;
        if (first >= tiles.count) break;
        float scores[kHeadTiles][4];
#pragma unroll
        for (int h = 0; h < kHeadTiles; ++h) now.multiply(scores[h], query_, product, h);
        take(scores, first);
      }
    }
  }

 private:
  using Tiles = ShadowTiles<kDim, kBlock, kTiles, kSharing>;

  // Those from `first` on; the last one again for those that are not there.
  __device__ void load(Tiles& to, const WarpTiles& tiles, int first) const {
    const char* from[kTiles];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int tile = min(first + i, tiles.count - 1);
      from[i] = address(tiles.page_of(tile), tiles.key(tile));
    }
    to.load(from, own_, at_, policy_);
  }

  __device__ const char* address(int page, int key) const {
    const std::uint32_t tile = static_cast<std::uint32_t>(rows_.slot(key)) / kShadowTileKeys;
    return tiles_ + std::uint64_t{static_cast<std::uint32_t>(page) * page_units_ +
                                  tile * (Tile::kBytes / 16)} *
                        16;
  }

  const char* tiles_;
  std::uint32_t page_units_;
  RowFinder rows_;
  LanePlace at_;
  int own_;
  std::uint64_t policy_;
  ShadowQuery<kDim, kHeadTiles, kSharing> query_;
};

/// Shared memory of a block of the scores' kernel.
template <class Source, int kMostHeads>
struct ScoresShared {
  /// Scores of a pair of tiles under each head; the stride keeps lanes in different banks.
  using PairScores = float[kMostHeads][WarpTiles::kPairKeys + 4];

  typename Source::Memory memory[kBlockWarps];
  alignas(16) PairScores pairs[kBlockWarps];
  ItemSum sums[kBlockWarps][kMaximumGroup];
  ItemLoopShared loop;  ///< last: only the entries of requests that there are have memory
};

/// Scores of one item after another, exact (KeySource) or estimated (ShadowSource), and their
/// maxima and sums.
template <class Source, int kMostHeads>
class ScoreWorker {
 public:
  using Shared = ScoresShared<Source, kMostHeads>;
  static constexpr Work kWork = Work::scores;

  __device__ ScoreWorker(const DecodeArguments& a, const DecodeWorkspace& w, Shared& shared)
      : a_(a),
        w_(w),
        shared_(shared),
        at_(static_cast<int>(threadIdx.x)),
        warp_(static_cast<int>(threadIdx.x) / kWarpThreads),
        group_(w.group),
        first_head_(2 * at_.t % (8 / Source::kSharing)),
        own_tile_(2 * at_.t / (8 / Source::kSharing)) {}

  __device__ void work(const Item& item) {
    LaneSums<kHeadTiles> sums;
    sums.clear();
    const RowFinder rows(a_.cache, item.request);
    stride_ = score_stride(item.length);
    scores_ = w_.scores + item.scores * group_;
    const int first = item.begin + warp_ * WarpTiles::kPairKeys;
    WarpTiles tiles(rows, item, first, at_.lane);
    Source source(a_, group_, item, shared_.memory[warp_], at_);
    const auto take = [&](float(&scores)[kHeadTiles][4], int tile) {
      const int own = tile + own_tile_;
      hide_behind(scores, tiles.key(own), item.end);
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) sums.add(scores[h], h);
      put(scores, own);
      if (tiles.ends_pair(tile + Source::kSharing - 1)) store(tiles.key(tile / 2 * 2), item.end);
    };
    for (int key = first; key < item.end; key += WarpTiles::kMostKeys) {
      if (key > first) tiles = WarpTiles(rows, item, key, at_.lane);
      source.for_each_tile(tiles, take);
    }
    end(item, sums);
  }

 private:
  static constexpr int kHeadTiles = kMostHeads > 8 ? 2 : 1;

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

  // Puts scores where those of a pair of tiles come together.
  __device__ void put(const float (&scores)[kHeadTiles][4], int tile) const {
    auto& pair = shared_.pairs[warp_];
    const int place = tile % 2 * kTileKeys + at_.g;
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int head = 8 * h + first_head_ + j;
        if (head >= kMostHeads) continue;
        pair[head][place] = scores[h][j];
        pair[head][place + 8] = scores[h][j + 2];
      }
    }
  }

  // Stores the scores of a pair of tiles from `key` on, eight lanes those of one head.
  __device__ void store(int key, int end) const {
    constexpr int kLaneKeys = 4;
    constexpr int kHeadLanes = WarpTiles::kPairKeys / kLaneKeys;
    const auto& pair = shared_.pairs[warp_];
    const int from = at_.lane % kHeadLanes * kLaneKeys;
    const std::uint64_t policy = keep_policy();
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kMostHeads; i += kWarpThreads / kHeadLanes) {
      const int head = i + at_.lane / kHeadLanes;
      if (head >= group_ || key + from >= end) continue;
      store_4(scores_ + head * stride_ + key + from,
              *reinterpret_cast<const float4*>(&pair[head][from]), policy);
    }
    __syncwarp();
  }

  __device__ void end(const Item& item, LaneSums<kHeadTiles>& sums) const {
    sums.template share<4 / Source::kSharing>(shared_.sums[warp_], at_.lane);
    __syncthreads();
    if (warp_ != 0) return;
    if (at_.lane < group_) {
      ItemSum all = shared_.sums[0][at_.lane];
      for (int other = 1; other < kBlockWarps; ++other) {
        all = join(all, shared_.sums[other][at_.lane]);
      }
      w_.item_sums[std::int64_t{item.number} * group_ + at_.lane] = all;
    }
    __syncwarp();
    if (at_.lane == 0) {
      count_release(&w_.units[item.request * a_.kv_heads + item.kv_head].score_items);
    }
  }

  const DecodeArguments& a_;
  const DecodeWorkspace& w_;
  Shared& shared_;
  LanePlace at_;
  int warp_;
  int group_;
  int first_head_;  // of the lane's columns
  int own_tile_;    // of those that share a product
  int stride_ = 0;
  float* scores_ = nullptr;  // of the unit
};

}  // namespace sift::cuda
