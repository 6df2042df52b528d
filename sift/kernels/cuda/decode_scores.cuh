#pragma once

#include "sift/kernels/cuda/decode_block.cuh"
#include "sift/kernels/cuda/decode_plan.cuh"

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
  __device__ int key() const { return key_; }
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

/// Writes a tile's scores to those of its unit [group, stride].
template <int kHeadTiles>
__device__ void store_scores(const ScoreTile& scores, float* unit, int stride, int group, int key,
                             const LanePlace& at) {
#pragma unroll
  for (int h = 0; h < kHeadTiles; ++h) {
    const int head = at.g + 8 * h;
    if (head >= group) continue;
    float* row = unit + std::int64_t{head} * stride + key + 2 * at.t;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<float2*>(row + 8 * half) = {scores.of[half][2 * h],
                                                    scores.of[half][2 * h + 1]};
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

/// Adds a tile's scores to the maxima and sums of its heads.
template <int kHeadTiles>
__device__ void add_scores(ItemSum (&sums)[kHeadTiles], const ScoreTile& scores) {
  const float(&of)[2][4] = scores.of;
#pragma unroll
  for (int h = 0; h < kHeadTiles; ++h) {
    const float most =
        fmaxf(fmaxf(of[0][2 * h], of[0][2 * h + 1]), fmaxf(of[1][2 * h], of[1][2 * h + 1]));
    const float maximum = fmaxf(sums[h].maximum, most);
    const float reference = finite_reference(maximum);
    sums[h].sum = sums[h].sum * exp2_fast(sums[h].maximum - reference) +
                  ((exp2_fast(of[0][2 * h] - reference) + exp2_fast(of[0][2 * h + 1] - reference)) +
                   (exp2_fast(of[1][2 * h] - reference) + exp2_fast(of[1][2 * h + 1] - reference)));
    sums[h].maximum = maximum;
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

/// Where one warp reads keys for their scores.
template <class T, int kDim, class Context>
class KeyTiles {
 public:
  __device__ KeyTiles(const Context& c, const Item& item) : cursor_(c, item) {}

  /// Tiles of 16 keys that a place of the ring takes.
  static __device__ int tiles() { return 1; }
  __device__ void look_up(const Context& c, const Item& item) { cursor_.look_up(c, item); }
  __device__ void open(const Context& c, const Item& item) { cursor_.open(c, item); }
  __device__ bool more() const { return cursor_.more(); }
  /// Starts copying the next tile and goes on to the one that follows.
  __device__ void issue(Context& c) {
    c.ring.issue(c.groups, cursor_.rows(), cursor_.row(c.a.cache.keys), c.a.cache.slot_stride);
    cursor_.advance();
  }
  __device__ void load_query(const Context& c, const Item& item) {
    query_.load(static_cast<const T*>(c.a.query) + std::int64_t{c.first_head(item)} * kDim, c.group,
                c.at);
  }
  __device__ ScoreTile multiply(const Context& c, const char* stage, int) const {
    return cuda::multiply<T>(query_, stage, c.at);
  }

 private:
  KeyCursor<kDim> cursor_;
  QueryTile<kDim, Context::kHeadTiles> query_;
};

/// Items of scores of sifted requests, exact (KeyTiles) or estimated (ShadowTiles): scores, their
/// maxima and sums. Tiles are on their way before they are used, across the ends of items.
template <class Tiles, class Context>
class ScoreWorker {
 public:
  static constexpr int kHeadTiles = Context::kHeadTiles;

  __device__ ScoreWorker(Context& c, int turn)
      : c_(c), tiles_(c, c.item(turn)), tiles_turn_(turn) {}

  /// Works on item `turn` and those of the same kind that follow; returns the first other one.
  __device__ int run(int turn) {
    for (; c_.item(turn).work == Work::scores; ++turn) {
      begin(turn);
      const int step = kTileKeys * tiles_.tiles();
      for (int key = begin_ + c_.warp * step; key < end_; key += kBlockWarps * step) {
        fill(turn + 1);
        const char* stage = c_.ring.wait(c_.groups);
        for (int i = 0; i < tiles_.tiles(); ++i) take(stage, i, key + i * kTileKeys);
        c_.ring.release();
      }
      end(turn);
    }
    return turn;
  }

 private:
  __device__ void begin(int turn) {
    c_.look_ahead(turn);
    const Item& item = c_.item(turn);
    if (tiles_turn_ < turn) follow();
    tiles_.look_up(c_, c_.item(turn + 1));
    tiles_.load_query(c_, item);
    for (ItemSum& sum : sums_) sum = {-__builtin_huge_valf(), 0};
    scores_ = c_.scores(item);
    stride_ = score_stride(item.length);
    begin_ = item.begin;
    end_ = item.end;
  }

  __device__ void follow() {
    ++tiles_turn_;
    tiles_.open(c_, c_.item(tiles_turn_));
  }

  // Starts copies as long as there is room for them, up to the end of item `last`.
  __device__ void fill(int last) {
    while (c_.ring.has_room()) {
      if (tiles_.more()) {
        tiles_.issue(c_);
      } else {
        if (tiles_turn_ == last || c_.item(tiles_turn_ + 1).work != Work::scores) return;
        follow();
      }
    }
  }

  __device__ void take(const char* stage, int i, int key) {
    ScoreTile scores = tiles_.multiply(c_, stage, i);
    finish_scores(scores, c_.scale, key, end_, c_.at);
    store_scores<kHeadTiles>(scores, scores_, stride_, c_.group, key, c_.at);
    add_scores(sums_, scores);
  }

  __device__ void end(int turn) {
    share_sums(c_.shared.results.sums[turn % 2][c_.warp], sums_, c_.at);
    __syncthreads();
    if (c_.warp != 0) return;
    const Item& item = c_.item(turn);
    write_item_sums(c_, item, turn);
    if (completes(&c_.w.units[c_.unit(item)].scored, score_cut(item.length).items(item.length),
                  c_.at.lane)) {
      plan_unit<Context::kEstimated>(c_.a, c_.w, item, c_.at.lane);
    }
  }

  Context& c_;
  Tiles tiles_;
  int tiles_turn_;
  ItemSum sums_[kHeadTiles];
  float* scores_;
  int stride_;
  int begin_;
  int end_;
};

}  // namespace sift::cuda
