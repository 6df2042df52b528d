#pragma once

#include "sift/kernels/cuda/decode_items.cuh"

namespace sift::cuda {

// A block is a pipeline. A selector warp claims items, waits for what they wait for and fills
// slots: which rows to read. What it needs for the next item is on its way while it works on one. A
// loader warp turns slots into tiles of rows and starts their copies, as far ahead as there is
// room, whatever item they belong to, so that memory never pauses between items. Four consumer
// warps multiply.

inline constexpr int kTileRows = 64;
inline constexpr int kConsumerWarps = 4;
inline constexpr int kConsumerThreads = kConsumerWarps * kWarpThreads;
inline constexpr int kBlockThreads = kConsumerThreads + 2 * kWarpThreads;
inline constexpr int kConsumerBarrier = 1;

/// What the copies of one tile are for.
struct TileNote {
  int slot = 0;
  int rows = 0;       ///< valid rows
  int first_row = 0;  ///< of the slot's rows
  bool values = false;
  bool first = false;  ///< of the slot
  bool last = false;   ///< of the slot
  bool end = false;    ///< no more work
};

/// One chunk of an item, from the selector to the others.
struct SlotNote {
  Work work = Work::none;
  int item = 0;
  ItemPlace place;
  int chunk = 0;        ///< of the KV head
  int keys = 0;         ///< of the chunk
  int rows = 0;         ///< of V to read
  bool opens = false;   ///< it is the first of its item
  bool closes = false;  ///< it is the last of its item
  bool records = false;

  __device__ std::int64_t score_chunk() const { return place.first_chunk + chunk; }
};

/// What one head keeps of a chunk.
struct KeptCount {
  int kept = 0;
  int eligible = 0;  ///< passed by score and not forced
};

/// The shared memory of a block for heads of kDim and groups of up to kMostHeads: 4, 8 or 16.
template <int kDim, int kMostHeads>
struct SharedLayout {
  static constexpr int kHeads = kMostHeads;
  static constexpr int kHeadTiles = (kMostHeads + 7) / 8;  ///< of 8, as matrix products take them
  static constexpr int kRowBytes = 2 * kDim;
  static constexpr int kTileBytes = kTileRows * kRowBytes;
  // As many as let two blocks share a multiprocessor of 228 KiB, where heads are not too long.
  static constexpr int kSlots = kMostHeads == 16 ? 2 : kMostHeads == 8 ? 3 : 4;
  static constexpr int kTiles = kDim == 256  ? 4
                                : kDim == 64 ? 6
                                             : (kDim == 96 ? 5 : 4) - (kMostHeads == 16 ? 1 : 0);
  static constexpr int kQueryStride = kDim + 8;  ///< values; avoids bank conflicts

  struct Slot {
    HeadPlan plans[kHeads];
    SlotNote note;
    KeptCount kept[kHeads];
    int rows_eligible;
    int pages[kChunkKeys / 16];
    std::uint16_t rows[kChunkKeys];                 ///< keys of the chunk whose V rows are read
    alignas(16) float scores[kChunkKeys * kHeads];  ///< [row, group], −∞ where a head drops it
    alignas(16) std::uint16_t query[8 * kHeadTiles * kQueryStride];
  };

  static constexpr int kHeadsAdded = kMostHeads == 4 ? 4 : 2;  ///< at a time

  alignas(128) unsigned char tiles[kTiles][kTileBytes];
  float warp_sums[kConsumerWarps][kHeadsAdded][kDim];
  Slot slots[kSlots];
  TileNote notes[kTiles];
  std::uint64_t tile_full[kTiles];
  std::uint64_t tile_empty[kTiles];
  std::uint64_t slot_full[kSlots];
  std::uint64_t slot_empty[kSlots];
  float reduced_maximum[2][kConsumerWarps][8 * kHeadTiles];
  float reduced_sum[2][kConsumerWarps][8 * kHeadTiles];
  float2 head_factors[kHeads];
  int last_of_unit;
  int sift_begin[kMaximumBatch + 1];
  int dense_begin[kMaximumBatch + 1];
  int chunk_begin[kMaximumBatch + 1];
  int lengths[kMaximumBatch];
};

/// Which place of a ring comes next, and in which parity.
template <int kPlaces>
struct RingPosition {
  int place = 0;
  int parity = 0;
  __device__ void advance() {
    if (++place == kPlaces) {
      place = 0;
      parity ^= 1;
    }
  }
};

}  // namespace sift::cuda
