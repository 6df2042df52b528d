#pragma once

#include "sift/kernels/cuda/decode_block.cuh"

namespace sift::cuda {

/// Where one warp reads keys: tiles of 16, which the warps of a block take in turns, so that a
/// block reads on in the cache. Each lane knows the page of one tile, looked up well before it is
/// needed: a look-up of each tile's page in turn would wait for the tiles that were asked for
/// before.
template <int kDim>
class KeyCursor {
 public:
  static constexpr int kStep = kBlockWarps * kTileKeys;

  template <class Context>
  __device__ KeyCursor(const Context& c, const Item& item)
      : lane_(c.at.lane), first_(c.warp * kTileKeys) {
    look_up(c, item);
    open(c, item);
  }

  /// Looks up the first pages of the item that follows.
  template <class Context>
  __device__ void look_up(const Context& c, const Item& item) {
    if (item.work == Work::none) return;
    following_pages_ = pages(RowFinder(c.a.cache, item.request), item.begin + first_, item.end - 1);
  }

  /// Moves to the beginning of an item whose pages were looked up.
  template <class Context>
  __device__ void open(const Context& c, const Item& item) {
    rows_ = RowFinder(c.a.cache, item.request);
    head_ = item.kv_head * c.a.cache.head_stride;
    page_stride_ = c.a.cache.page_stride;
    key_ = item.begin + first_;
    last_key_ = item.end - 1;
    tile_ = 0;
    pages_ = following_pages_ * page_stride_ + head_;
    page_ = __shfl_sync(kAllLanes, pages_, 0);
  }

  __device__ bool more() const { return key_ <= last_key_; }
  __device__ int rows() const { return last_key_ + 1 - key_; }
  /// Where the tile's first row lies in `side`, the keys or the values of all. It ends on one page.
  __device__ const char* row(const void* side) const {
    return static_cast<const char*>(side) + page_ + rows_.in_page(key_);
  }
  __device__ void advance() {
    key_ += kStep;
    ++tile_;
    if (tile_ == kWarpThreads) {
      tile_ = 0;
      pages_ = pages(rows_, key_, last_key_) * page_stride_ + head_;
    }
    page_ = __shfl_sync(kAllLanes, pages_, tile_);
  }

 private:
  __device__ std::int64_t pages(const RowFinder& rows, int key, int last_key) const {
    return rows.page(min(key + lane_ * kStep, last_key));
  }

  int lane_;
  int first_;
  RowFinder rows_;
  std::int64_t head_;  // bytes from a page to its rows of the KV head
  int last_key_;
  int key_;
  int tile_;  // among those whose pages the lanes know
  std::int64_t page_stride_;
  std::int64_t page_;             // bytes to the KV head on that of the tile
  std::int64_t pages_;            // the same of the lane's tile
  std::int64_t following_pages_;  // number of that of the lane's tile in the item that follows
};

/// Scores of a tile in base 2; −∞ for keys from `end` on.
__device__ inline void finish_scores(ScoreTile& scores, float scale, int key, int end,
                                     const LanePlace& at) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores.of[half][i] = key + 8 * half + 2 * at.t + i % 2 < end ? scores.of[half][i] * scale
                                                                   : -__builtin_huge_valf();
    }
  }
}

/// Writes a tile's scores to those of a unit that records [keys, group].
template <int kHeadTiles>
__device__ void store_records(const ScoreTile& scores, float* unit, int group, int key, int end,
                              const LanePlace& at) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = key + 8 * (i / 2) + 2 * at.t + i % 2;
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = at.g + 8 * h;
      if (head < group && row < end) {
        unit[std::int64_t{row} * group + head] = scores.of[i / 2][2 * h + i % 2];
      }
    }
  }
}

/// Puts this warp's maxima and sums, of which each lane has its own part, where the block adds
/// them.
template <int kHeadTiles>
__device__ void share_sums(ItemSum (&shared)[kMaximumGroup], ItemSum (&sums)[kHeadTiles],
                           const LanePlace& at) {
#pragma unroll
  for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
    for (int distance = 1; distance < 4; distance *= 2) {
      sums[h] = join(sums[h], {__shfl_xor_sync(kAllLanes, sums[h].maximum, distance),
                               __shfl_xor_sync(kAllLanes, sums[h].sum, distance)});
    }
    if (at.t == 0) shared[8 * h + at.g] = sums[h];
  }
}

/// Writes the maxima and sums of an item, which all warps have shared. By one warp.
template <class Context>
__device__ void write_item_sums(const Context& c, const Item& item, int turn) {
  if (c.at.lane >= c.group) return;
  const auto& sums = c.shared.results.sums[turn % 2];
  ItemSum all = sums[0][c.at.lane];
  for (int warp = 1; warp < kBlockWarps; ++warp) all = join(all, sums[warp][c.at.lane]);
  c.w.item_sums[std::int64_t{item.number} * c.group + c.at.lane] = all;
}

}  // namespace sift::cuda
