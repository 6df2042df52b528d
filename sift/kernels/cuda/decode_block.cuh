#pragma once

#include "sift/kernels/cuda/decode_claims.cuh"
#include "sift/kernels/cuda/decode_sums.cuh"
#include "sift/kernels/cuda/decode_tiles.cuh"

namespace sift::cuda {

/// Tiles that a warp has on their way: as many as leave room for the blocks of a multiprocessor.
template <int kDim, int kMostHeads>
constexpr int tile_stages() {
  return kDim > 128 || (kMostHeads <= 4 && kDim > 64) ? 2 : 3;
}

/// What the warps of a block put together at the end of an item.
template <int kDim, int kMostHeads>
struct ItemResults {
  static constexpr int kHeadsAdded = kDim > 128 || kMostHeads < 8 ? 4 : 8;  ///< at a time
  static constexpr int kStride = kDim + 4;  ///< keeps heads in different banks

  ItemSum sums[2][kBlockWarps][kMaximumGroup];  ///< used in turns
  alignas(16) float values[kBlockWarps][kHeadsAdded][kStride];
};

/// Shared memory of a block.
template <int kDim, int kMostHeads>
struct BlockShared {
  static constexpr int kItems = 4;

  typename TileRing<kDim, tile_stages<kDim, kMostHeads>()>::Memory tiles[kBlockWarps];
  ItemResults<kDim, kMostHeads> results;
  Item items[kItems];  ///< the one at work, the next two, and one that slower warps may still read
  ItemTable table;     ///< last: only the entries of requests that there are have memory

  static constexpr std::size_t bytes(int batch) {
    return sizeof(BlockShared) - (kMaximumBatch - batch) * sizeof(RequestEntry);
  }
};

/// What every part of the kernel of exact attention needs.
template <int kDim, int kMostHeads>
struct BlockContext {
  static constexpr int kHeadTiles = kMostHeads > 8 ? 2 : 1;
  using Shared = BlockShared<kDim, kMostHeads>;
  using Ring = TileRing<kDim, tile_stages<kDim, kMostHeads>()>;

  const DecodeArguments& a;
  const DecodeWorkspace& w;
  Shared& shared;
  LanePlace at;
  int warp;
  int group;
  float scale;  ///< of scores, to base-2 logarithms
  Ring ring;
  ItemClaims claims;

  __device__ BlockContext(const DecodeArguments& arguments, const DecodeWorkspace& workspace,
                          Shared& memory)
      : a(arguments),
        w(workspace),
        shared(memory),
        at(static_cast<int>(threadIdx.x)),
        warp(static_cast<int>(threadIdx.x) / kWarpThreads),
        group(workspace.group),
        scale(arguments.scale * kLog2EFloat),
        ring(memory.tiles[threadIdx.x / kWarpThreads], at.lane, read_once_policy()) {}

  /// The block's item number `turn`; it and the next one are known.
  __device__ const Item& item(int turn) const { return shared.items[turn % Shared::kItems]; }

  /// Finds out item `turn` + 2, while the block works on item `turn`.
  __device__ void look_ahead(int turn) {
    if (claims.is_claimant()) {
      claims.next(a, w, shared.table, shared.items[(turn + 2) % Shared::kItems]);
    }
  }

  __device__ int first_head(const Item& item) const {
    return item.request * a.heads + item.kv_head * group;
  }
  /// Where scores of the item's unit are recorded [keys, group].
  __device__ float* scores(const Item& item) const { return w.scores + item.scores * group; }
};

}  // namespace sift::cuda
