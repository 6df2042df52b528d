#pragma once

#include "sift/kernels/cuda/decode_shared.cuh"

namespace sift::cuda {

/// Where a piece of 16 bytes of a tile's row lies: shuffled so that eight rows' pieces of the same
/// number, which matrix loads fetch together, are in different banks.
template <int kDim>
__device__ inline int piece_place(int row, int piece) {
  constexpr int kPieces = kDim / 8;
  const int flip = kPieces % 8 == 0 ? row & 7 : row >> 1 & 3;
  return row * kPieces + (piece ^ flip);
}

/// The loader warp of a block.
template <class T, int kDim, int kMostHeads>
class Loader {
 public:
  using Shared = SharedLayout<kDim, kMostHeads>;
  using Slot = typename Shared::Slot;

  __device__ Loader(const DecodeArguments& a, Shared& shared)
      : a_(a), shared_(shared), lane_(threadIdx.x % kWarpThreads) {}

  __device__ void run() {
    RingPosition<Shared::kSlots> at;
    while (true) {
      barrier_wait(&shared_.slot_full[at.place], at.parity);
      const Slot& slot = shared_.slots[at.place];
      const SlotNote& note = slot.note;
      if (note.work == Work::none) break;
      if (note.work != Work::values) {
        load_side(at.place, slot, false, note.keys, note.work == Work::scores);
      }
      if (note.work != Work::scores) {
        load_side(at.place, slot, true, note.rows, true);
      }
      at.advance();
    }
    next_tile();
    if (lane_ == 0) shared_.notes[tile_.place] = {.end = true};
    finish_tile();
  }

 private:
  static constexpr int kPieces = kDim / 8;
  static constexpr int kCopies = kTileRows * kPieces / kWarpThreads;
  static constexpr int kCopyBatch = kPieces % 8 == 0 ? 8 : 4;  // divides what half a tile takes
  static_assert(kPieces % kCopyBatch == 0);

  // The K rows, or the V rows, of one item.
  __device__ void load_side(int place, const Slot& slot, bool values, int rows, bool ends_item) {
    const bool begins_item = !values || slot.note.work == Work::values;
    const bool listed = slot.note.work == Work::values;
    int first = 0;
    do {
      const int count = min(rows - first, kTileRows);
      next_tile();
      copy_rows(slot, values, listed, first, count);
      if (lane_ == 0) {
        TileNote& note = shared_.notes[tile_.place];
        note.slot = place;
        note.rows = count;
        note.first_row = first;
        note.values = values;
        note.first = begins_item && first == 0;
        note.last = ends_item && first + kTileRows >= rows;
        note.end = false;
      }
      finish_tile();
      first += kTileRows;
    } while (first < rows);
  }

  // Rows behind the valid ones repeat the last of them: what they hold must be finite numbers
  // wherever the cache is.
  __device__ void copy_rows(const Slot& slot, bool values, bool listed, int first, int count) {
    if (count <= 0) return;
    const char* base[kTileRows / kWarpThreads];
#pragma unroll
    for (int i = 0; i < kTileRows / kWarpThreads; ++i) {
      const int row = first + min(i * kWarpThreads + lane_, count - 1);
      base[i] = row_address(slot, values, listed ? slot.rows[row] : row);
    }
    const int padded = (count + 15) / 16 * 16;
    const std::uint32_t tile = shared_address(shared_.tiles[tile_.place]);
#pragma unroll
    for (int batch = 0; batch < kCopies / kCopyBatch; ++batch) {
      if (batch * kCopyBatch * kWarpThreads / kPieces >= padded) break;
      copy_batch(base[batch * kCopyBatch / kPieces], tile, batch);
    }
  }

  // Addresses first, so that their latencies overlap. Lane i of `base` knows row i of the half.
  __device__ void copy_batch(const char* base, std::uint32_t tile, int batch) {
    const char* from[kCopyBatch];
#pragma unroll
    for (int i = 0; i < kCopyBatch; ++i) {
      const int index = (batch * kCopyBatch + i) * kWarpThreads + lane_;
      const auto address = reinterpret_cast<std::uint64_t>(base);
      from[i] = reinterpret_cast<const char*>(
          __shfl_sync(kAllLanes, address, index / kPieces % kWarpThreads));
    }
#pragma unroll
    for (int i = 0; i < kCopyBatch; ++i) {
      const int index = (batch * kCopyBatch + i) * kWarpThreads + lane_;
      const int row = index / kPieces;
      const int piece = index % kPieces;
      copy_async_16(tile + piece_place<kDim>(row, piece) * 16, from[i] + piece * 16);
    }
  }

  __device__ const char* row_address(const Slot& slot, bool values, int key) const {
    const CacheAddress& cache = a_.cache;
    // A contiguous cache is one page whose slots count from the sequence's beginning.
    const bool paged = cache.table != nullptr;
    const int page = slot.pages[paged ? key >> cache.page_shift : 0];
    const std::int64_t row =
        paged ? key & ((1 << cache.page_shift) - 1) : slot.note.chunk * kChunkKeys + key;
    const auto* base = static_cast<const char*>(values ? cache.values : cache.keys);
    return base + page * cache.page_stride + row * cache.slot_stride +
           slot.note.place.kv_head * cache.head_stride;
  }

  __device__ void next_tile() { barrier_wait(&shared_.tile_empty[tile_.place], tile_.parity ^ 1); }

  __device__ void finish_tile() {
    barrier_arrive_after_copies(&shared_.tile_full[tile_.place]);
    __syncwarp();
    if (lane_ == 0) barrier_arrive(&shared_.tile_full[tile_.place]);
    tile_.advance();
  }

  const DecodeArguments& a_;
  Shared& shared_;
  int lane_;
  RingPosition<Shared::kTiles> tile_;
};

}  // namespace sift::cuda
