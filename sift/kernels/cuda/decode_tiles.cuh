#pragma once

// How a warp multiplies 16 rows of K or V that lie in shared memory (decode_ring.cuh).
//
// Scores are Q · Kᵀ: heads are the rows of the product and keys its columns. Outputs are Vᵀ · P.
// Lane 4 g + t has the scores of heads g and g + 8, which is where weights are wanted.

#include "sift/kernels/cuda/decode_arguments.h"
#include "sift/kernels/cuda/decode_ring.cuh"

namespace sift::cuda {

struct LanePlace {
  int lane;
  int g;
  int t;
  explicit __device__ LanePlace(int thread)
      : lane(thread % kWarpThreads), g(lane / 4), t(lane % 4) {}
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
__device__ ScoreTile multiply(const QueryTile<kDim, kHeadTiles>& query, const char* keys,
                              const LanePlace& at) {
  ScoreTile scores = {};
  const int row = at.lane % 8 + at.lane / 16 * 8;
  const int turned = at.lane / 8 % 2 * 16 ^ tile_turn<kDim>(row);
  keys += row * 2 * kDim;
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    std::uint32_t b[4];
    load_matrices(b, keys + (32 * k ^ turned));
    const std::uint32_t a[4] = {query.low[k][0], kHeadTiles == 2 ? query.low[k][kHeadTiles - 1] : 0,
                                query.high[k][0],
                                kHeadTiles == 2 ? query.high[k][kHeadTiles - 1] : 0};
    Format<T>::multiply_add(scores.of[0], a, b[0], b[1]);
    Format<T>::multiply_add(scores.of[1], a, b[2], b[3]);
  }
  return scores;
}

/// Scores of 16 keys under heads 8 h …: [i] is that of key g + 8 · (i / 2) under head
/// 8 h + 2t + i % 2.
template <class T, int kDim, int kHeadTiles>
__device__ void multiply_by_key(float (&scores)[kHeadTiles][4],
                                const QueryTile<kDim, kHeadTiles>& query, const char* keys,
                                const LanePlace& at) {
  const int row = at.lane % 16;
  const int turned = at.lane / 16 * 16 ^ tile_turn<kDim>(row);
  keys += row * 2 * kDim;
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    std::uint32_t a[4];
    load_matrices(a, keys + (32 * k ^ turned));
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      Format<T>::multiply_add(scores[h], a, query.low[k][h], query.high[k][h]);
    }
  }
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
  __device__ void add(const char* values, const std::uint32_t (&weights)[kHeadTiles][2],
                      const LanePlace& at) {
    const int row = at.lane % 8 + at.lane / 16 * 8;
    const int turned = at.lane / 8 % 2 * 16 ^ tile_turn<kDim>(row);
    values += row * 2 * kDim;
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
      std::uint32_t a[4];
      load_matrices_transposed(a, values + (32 * strip ^ turned));
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
  /// From a side's first row of the KV head to that of a key on `page`, in units of 16 bytes.
  __device__ std::uint32_t offset(const CacheAddress& cache, int page, int key) const {
    const auto page_units = static_cast<std::uint32_t>(cache.page_stride / 16);
    const auto slot_units = static_cast<std::uint32_t>(cache.slot_stride / 16);
    return static_cast<std::uint32_t>(page) * page_units +
           static_cast<std::uint32_t>(slot(key)) * slot_units;
  }
};

}  // namespace sift::cuda
