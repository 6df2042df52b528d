#pragma once

#include "sift/kernels/cuda/decode_claims.cuh"
#include "sift/kernels/cuda/decode_tiles.cuh"

namespace sift::cuda {

inline constexpr int kBlockWarps = 4;
inline constexpr int kBlockThreads = kBlockWarps * kWarpThreads;

/// Tiles that a warp has on their way: as many as leave room for the blocks of a multiprocessor.
template <int kDim, int kMostHeads>
constexpr int tile_stages() {
  return kDim > 128 || (kMostHeads <= 4 && kDim > 64) ? 2 : 3;
}

/// What a warp selects rows of V with.
template <int kMostHeads, bool kEstimates>
struct Selection {
  /// Keys that a warp selects from at a time.
  static constexpr int kKeys = kMostHeads > 4 ? 32 : 64;
  /// Chunks of keys whose scores are on their way, the one that is selected from included.
  static constexpr int kChunks = kMostHeads > 8 ? 2 : 4;
  /// Places of the ring of selected rows.
  static constexpr int kPlaces = 128;
  static constexpr int kStride = kPlaces + 8;  ///< keeps heads in different banks

  struct Chunk {
    alignas(16) HeadPlan plans[kMostHeads];
    alignas(16) float scores[kMostHeads][kKeys];
    std::int32_t pages[kKeys / kTileKeys];
  };
  Chunk chunks[kChunks];
  int only_keys[kMostHeads];  ///< kept though nothing passes, in the items that hold them; or −1

  // The ring: where the rows lie, in units of 16 bytes, and their weights under each head.
  std::uint32_t offsets[kPlaces];
  std::uint16_t weights[kMostHeads][kStride];

  // Of candidates, instead of weights: the keys, and a bit for each head whose candidate one is.
  std::int32_t keys[kEstimates ? kPlaces : 1];
  std::uint16_t heads[kEstimates ? kPlaces : 1];
};

/// What the warps of a block put together at the end of an item.
template <int kDim, int kMostHeads>
struct ItemResults {
  static constexpr int kHeadsAdded = kDim > 128 || kMostHeads < 8 ? 4 : 8;  ///< at a time
  static constexpr int kStride = kDim + 4;  ///< keeps heads in different banks

  ItemSum sums[2][kBlockWarps][kMaximumGroup];    ///< used in turns
  ItemSum others[4][kBlockWarps][kMaximumGroup];  ///< of keys that are no candidates, likewise
  float masses[kBlockWarps][kMaximumGroup];
  alignas(16) float values[kBlockWarps][kHeadsAdded][kStride];
};

/// Shared memory of a block.
template <int kDim, int kMostHeads, bool kEstimates>
struct BlockShared {
  static constexpr int kItems = 4;

  TileMemory<kDim, tile_stages<kDim, kMostHeads>()> tiles[kBlockWarps];
  ItemResults<kDim, kMostHeads> results;
  Selection<kMostHeads, kEstimates> selections[kBlockWarps];
  typename ItemClaims<kEstimates>::Waiting waiting;
  Item items[kItems];  ///< the one at work, the next two, and one that slower warps may still read
  ItemTable table;     ///< last: only the entries of requests that there are have memory

  static constexpr std::size_t bytes(int batch) {
    return sizeof(BlockShared) - (kMaximumBatch - batch) * sizeof(RequestEntry);
  }

  // Rows of all tiles on their way, what is left over from a selection, and the next selection.
  static_assert((tile_stages<kDim, kMostHeads>() + 1) * kTileKeys +
                    Selection<kMostHeads, kEstimates>::kKeys <=
                Selection<kMostHeads, kEstimates>::kPlaces + 1);
};

/// What every part of the kernel needs. kEstimates: scores of sifted requests are estimated first.
template <int kDim, int kMostHeads, bool kEstimates>
struct BlockContext {
  static constexpr bool kEstimated = kEstimates;
  static constexpr int kMost = kMostHeads;
  static constexpr int kHeadTiles = kMostHeads > 8 ? 2 : 1;
  using Shared = BlockShared<kDim, kMostHeads, kEstimates>;
  using Ring = TileRing<kDim, tile_stages<kDim, kMostHeads>()>;

  const DecodeArguments& a;
  const DecodeWorkspace& w;
  Shared& shared;
  LanePlace at;
  int warp;
  int group;
  float scale;  ///< of scores, to base-2 logarithms
  Ring ring;
  CopyGroups groups;  ///< of copies other than the ring's
  ItemClaims<kEstimates> claims;

  __device__ BlockContext(const DecodeArguments& arguments, const DecodeWorkspace& workspace,
                          Shared& memory)
      : a(arguments),
        w(workspace),
        shared(memory),
        at(static_cast<int>(threadIdx.x)),
        warp(static_cast<int>(threadIdx.x) / kWarpThreads),
        group(arguments.heads / arguments.kv_heads),
        scale(arguments.scale * kLog2EFloat),
        ring(memory.tiles[threadIdx.x / kWarpThreads], at.lane, read_once_policy()) {}

  /// The block's item number `turn`; it and the next one are known.
  __device__ const Item& item(int turn) const { return shared.items[turn % Shared::kItems]; }

  /// Finds out item `turn` + 2, while the block works on item `turn`.
  __device__ void look_ahead(int turn) {
    if (claims.is_claimant()) {
      claims.next(a, w, shared.table, shared.waiting, shared.items[(turn + 2) % Shared::kItems]);
    }
  }

  __device__ int unit(const Item& item) const { return item.request * a.kv_heads + item.kv_head; }
  __device__ int first_head(const Item& item) const {
    return item.request * a.heads + item.kv_head * group;
  }
  /// Scores of the item's unit [group, score_stride(length)].
  __device__ float* scores(const Item& item) const { return w.scores + item.scores * group; }
  __device__ const char* side(const Item& item, const void* base) const {
    return static_cast<const char*>(base) + item.kv_head * a.cache.head_stride;
  }
};

/// What scores are taken relative to: their maximum, and 0 when all are −∞.
__device__ inline float finite_reference(float maximum) {
  return maximum == -__builtin_huge_valf() ? 0.0F : maximum;
}

/// Maximum and sum of two sets of scores together.
__device__ inline ItemSum join(ItemSum a, ItemSum b) {
  const float maximum = fmaxf(a.maximum, b.maximum);
  const float reference = finite_reference(maximum);
  return {maximum,
          a.sum * exp2_fast(a.maximum - reference) + b.sum * exp2_fast(b.maximum - reference)};
}

/// The same over all lanes of a warp, whichever lane asks.
__device__ inline ItemSum join_lanes(ItemSum mine) {
#pragma unroll
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    mine = join(mine, {__shfl_xor_sync(kAllLanes, mine.maximum, distance),
                       __shfl_xor_sync(kAllLanes, mine.sum, distance)});
  }
  return mine;
}

template <class V>
__device__ V sum_lanes(V value) {
#pragma unroll
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

}  // namespace sift::cuda
