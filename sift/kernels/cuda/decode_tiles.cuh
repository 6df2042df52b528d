#pragma once

// How a warp brings 16 rows of K or V to shared memory and multiplies them. Rows travel by
// asynchronous copies, several tiles ahead of use: nothing but an explicit wait ever waits for
// them.
//
// Scores are Q · Kᵀ: heads are the rows of the product and keys its columns. Outputs are Vᵀ · P.
// Lane 4 g + t has the scores of heads g and g + 8, which is where weights are wanted.

#include "sift/kernels/cuda/decode_arguments.h"
#include "sift/kernels/cuda/device_primitives.cuh"

namespace sift::cuda {

inline constexpr int kTileKeys = 16;

struct LanePlace {
  int lane;
  int g;
  int t;
  explicit __device__ LanePlace(int thread)
      : lane(thread % kWarpThreads), g(lane / 4), t(lane % 4) {}
};

/// Where 16-byte piece `piece` of row `row` of a tile lies, in pieces: eight rows of one column of
/// pieces lie in different banks.
template <int kDim>
__device__ constexpr int piece_place(int row, int piece) {
  constexpr int kPieces = kDim / 8;
  return row * kPieces + (piece ^ (kPieces % 8 == 0 ? row % 8 : row / 2 % 4));
}

/// Tiles of one warp on their way: a ring in shared memory.
template <int kDim, int kStages>
struct TileMemory {
  alignas(128) uint4 pieces[kStages][kTileKeys * kDim / 8];
};

template <int kDim, int kStages>
class TileRing {
 public:
  __device__ TileRing(TileMemory<kDim, kStages>& memory, int lane, std::uint64_t policy)
      : memory_(memory), lane_(lane), policy_(policy) {}

  __device__ bool has_room() const { return issued_ - consumed_ < kStages; }
  __device__ bool empty() const { return issued_ == consumed_; }

  /// Starts copying the first `rows` of 16 rows; the others become zeros. row_of(i): where row
  /// i < rows lies. REQUIRES: rows ≥ 1.
  template <class RowOf>
  __device__ void issue(int rows, const RowOf& row_of) {
    constexpr int kPieces = kDim / 8;
    uint4* to = memory_.pieces[issued_ % kStages];
#pragma unroll
    for (int i = 0; i < kTileKeys * kPieces / kWarpThreads; ++i) {
      const int index = i * kWarpThreads + lane_;
      const int row = index / kPieces;
      const int piece = index % kPieces;
      copy_once_16(to + piece_place<kDim>(row, piece), row_of(min(row, rows - 1)) + 16 * piece,
                   row < rows, policy_);
    }
    issue_nothing();
  }
  /// Takes a place of the ring without copying anything.
  __device__ void issue_nothing() {
    close_group();
    group_of_tile_ = group_of_tile_ << 8 | (groups_ & 0xffU);
    ++issued_;
  }

  /// Closes a group of this thread's other copies.
  __device__ unsigned close_group() {
    commit_copies();
    return ++groups_;
  }
  /// Waits for a group.
  __device__ void wait_for(unsigned group) {
    const unsigned newer = groups_ - group & 0xffU;
    if (newer == 0) {
      wait_copies<0>();
    } else if (newer == 1) {
      wait_copies<1>();
    } else if (newer == 2) {
      wait_copies<2>();
    } else {
      wait_copies<3>();
    }
    __syncwarp();
  }

  /// Waits for the oldest tile.
  __device__ const uint4* wait() {
    wait_for(group_of_tile_ >> 8 * behind());
    return memory_.pieces[consumed_ % kStages];
  }
  /// The oldest tile is not read any more.
  __device__ void release() {
    __syncwarp();
    ++consumed_;
  }

  /// Tiles that were issued after the oldest one.
  __device__ int behind() const { return issued_ - consumed_ - 1; }

 private:
  static_assert(kStages <= 4, "group_of_tile_ has 8 bits for each");

  TileMemory<kDim, kStages>& memory_;
  int lane_;
  std::uint64_t policy_;
  int issued_ = 0;
  int consumed_ = 0;
  unsigned groups_ = 0;         // closed so far
  unsigned group_of_tile_ = 0;  // of each tile, the newest in the lowest bits
};

/// Queries of up to 8 · kHeadTiles heads.
template <int kDim, int kHeadTiles>
struct QueryTile {
  std::uint32_t low[kDim / 16][kHeadTiles];   ///< dimensions 16 k + 2t, + 1 of head 8 h + g
  std::uint32_t high[kDim / 16][kHeadTiles];  ///< dimensions 16 k + 8 + 2t, + 1

  /// `query`: the group's first row. Heads that are not there are zero.
  template <class T>
  __device__ void load(const T* query, int group, const LanePlace& at) {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = h * 8 + at.g;
      const auto* row = reinterpret_cast<const std::uint32_t*>(query + head * kDim) + at.t;
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k) {
        low[k][h] = head < group ? __ldg(row + 8 * k) : 0;
        high[k][h] = head < group ? __ldg(row + 8 * k + 4) : 0;
      }
    }
  }
};

/// Scores of 16 keys: [half][i] is that of key 8 · half + 2t + i % 2 under head g + 8 · (i / 2).
struct ScoreTile {
  float of[2][4];
};

template <class T, int kDim, int kHeadTiles>
__device__ ScoreTile multiply(const QueryTile<kDim, kHeadTiles>& query, const uint4* keys,
                              const LanePlace& at) {
  ScoreTile scores = {};
  const int row = at.lane % 8 + at.lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    std::uint32_t b[4];
    load_matrices(b, keys + piece_place<kDim>(row, 2 * k + at.lane / 8 % 2));
    const std::uint32_t a[4] = {query.low[k][0], kHeadTiles == 2 ? query.low[k][kHeadTiles - 1] : 0,
                                query.high[k][0],
                                kHeadTiles == 2 ? query.high[k][kHeadTiles - 1] : 0};
    Format<T>::multiply_add(scores.of[0], a, b[0], b[1]);
    Format<T>::multiply_add(scores.of[1], a, b[2], b[3]);
  }
  return scores;
}

/// Sums of weighted values: [h][strip][i] is that of dimension 16 · strip + g + 8 · (i / 2) under
/// head 8 h + 2t + i % 2.
template <int kDim, int kHeadTiles>
struct ValueSums {
  static constexpr int kStrips = kDim / 16;
  float of[kHeadTiles][kStrips][4];

  __device__ void clear() {
#pragma unroll
    for (auto& head : of) {
#pragma unroll
      for (auto& strip : head) {
#pragma unroll
        for (float& sum : strip) sum = 0;
      }
    }
  }

  /// weights[h]: of the rows 2t, 2t + 1, and of 2t + 8, 2t + 9, under head 8 h + g.
  template <class T>
  __device__ void add(const uint4* values, const std::uint32_t (&weights)[kHeadTiles][2],
                      const LanePlace& at) {
    const int row = at.lane % 8 + at.lane / 16 * 8;
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
      std::uint32_t a[4];
      load_matrices_transposed(a, values + piece_place<kDim>(row, 2 * strip + at.lane / 8 % 2));
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) {
        Format<T>::multiply_add(of[h][strip], a, weights[h][0], weights[h][1]);
      }
    }
  }

  /// Multiplies the sums of head 8 h + g, whose lanes give the factor.
  __device__ void scale(int h, float factor, const LanePlace& at) {
    const float even = __shfl_sync(kAllLanes, factor, 8 * at.t);
    const float odd = __shfl_sync(kAllLanes, factor, 8 * at.t + 4);
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
#pragma unroll
      for (int i = 0; i < 4; ++i) of[h][strip][i] *= i % 2 == 0 ? even : odd;
    }
  }
};

/// Finds the rows of one request in the cache.
struct RowFinder {
  const std::int32_t* pages;  ///< null: the request is the page
  int page_shift;
  int request;
  std::int64_t slot_stride;

  RowFinder() = default;
  __device__ RowFinder(const CacheAddress& cache, int of_request)
      : pages(nullptr),
        page_shift(cache.page_shift),
        request(of_request),
        slot_stride(cache.slot_stride) {
    if (cache.table == nullptr) return;
    pages = cache.table + (cache.table_begin != nullptr ? cache.table_begin[request]
                                                        : request * cache.table_stride);
  }

  __device__ int page(int key) const {
    return pages == nullptr ? request : __ldg(pages + (key >> page_shift));
  }
  /// Slot of a key on its page.
  __device__ int slot(int key) const {
    return pages == nullptr ? key : key & ((1 << page_shift) - 1);
  }
  /// Bytes from a page's first row of the KV head to that of a key on it.
  __device__ std::int64_t in_page(int key) const { return slot(key) * slot_stride; }
};

}  // namespace sift::cuda
