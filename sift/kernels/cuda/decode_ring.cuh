#pragma once

// Rows of K and V on their way from global to shared memory: each warp has a ring of tiles of 16
// rows, which are asked for well before they are used. Nothing but an explicit wait waits for them.

#include "sift/kernels/cuda/device_primitives.cuh"

namespace sift::cuda {

inline constexpr int kTileKeys = 16;

/// Where the 16-byte pieces of a row of a tile lie: piece p at byte 16 · p ^ tile_turn(row), so
/// that eight rows of one column lie in different banks, and rows in whole lines of 128 bytes.
template <int kDim>
__device__ constexpr int tile_turn(int row) {
  return 16 * (kDim % 64 == 0 ? row % 8 : row / 2 % 4);
}

/// Tiles of one warp on their way.
template <int kBytes, int kStages>
struct RingMemory {
  alignas(128) char tiles[kStages][kBytes];
};

/// A ring of tiles, of which some are on their way: what does not depend on how they are copied.
template <int kBytes, int kStages>
class CopyRing {
 public:
  using Memory = RingMemory<kBytes, kStages>;

  __device__ explicit CopyRing(Memory& memory) : memory_(memory) {}

  __device__ bool has_room() const { return count_ < kStages; }
  /// Tiles on their way or landed, and not released.
  __device__ int count() const { return count_; }

  /// Waits for the oldest tile. Copies land in the order in which they were committed.
  __device__ const char* wait() {
    static_assert(kStages <= 4);
    switch (count_) {
      case 1:
        wait_copies<0>();
        break;
      case 2:
        wait_copies<1>();
        break;
      case 3:
        wait_copies<2>();
        break;
      default:
        wait_copies<3>();
        break;
    }
    __syncwarp();
    return memory_.tiles[oldest_];
  }
  /// The oldest tile is not read any more.
  __device__ void release() {
    __syncwarp();
    oldest_ = next(oldest_);
    --count_;
  }

 protected:
  __device__ char* newest() const { return memory_.tiles[newest_]; }
  /// The copies of the newest tile have been asked for.
  __device__ void commit() {
    commit_copies();
    newest_ = next(newest_);
    ++count_;
  }

 private:
  static __device__ int next(int place) { return place + 1 == kStages ? 0 : place + 1; }

  Memory& memory_;
  int newest_ = 0;  // the place that is copied to next
  int oldest_ = 0;
  int count_ = 0;
};

/// Tiles of 16 rows of K or V.
template <int kDim, int kStages>
class TileRing : public CopyRing<kTileKeys * 2 * kDim, kStages> {
 public:
  using Base = CopyRing<kTileKeys * 2 * kDim, kStages>;

  __device__ TileRing(typename Base::Memory& memory, int lane, std::uint64_t policy)
      : Base(memory), lane_row_(lane / kRowLanes), piece_(lane % kRowLanes), policy_(policy) {}

  /// Starts copying the first `rows` of 16 rows, which lie `stride` bytes apart from `first` on;
  /// the others become zeros. REQUIRES: rows ≥ 1.
  __device__ void issue(int rows, const char* first, std::int64_t stride) {
    if (is_idle()) {
    } else if (rows >= kTileKeys) {
      const char* from = first + lane_row_ * stride + 16 * piece_;
#pragma unroll
      for (int i = 0; i < kTileKeys; i += kRows) {
        copy_once_16(place(i), from, policy_);
        from += kRows * stride;
      }
    } else {
#pragma unroll 2
      for (int i = 0; i < kTileKeys; i += kRows) {
        const int row = i + lane_row_;
        copy_once_16_or_clear(place(i), first + min(row, rows - 1) * stride + 16 * piece_,
                              row < rows, policy_);
      }
    }
    Base::commit();
  }

  /// The same for 16 rows that lie 16 · offsets[row] bytes from `side` on.
  __device__ void issue(const char* side, const std::uint32_t* offsets) {
    if (!is_idle()) {
      const char* from = side + 16 * piece_;
#pragma unroll
      for (int i = 0; i < kTileKeys; i += kRows) {
        copy_once_16(place(i), from + std::uint64_t{offsets[i + lane_row_]} * 16, policy_);
      }
    }
    Base::commit();
  }

 private:
  static constexpr int kRowLanes = kDim / 8;              // that copy one row, 16 bytes each
  static constexpr int kRows = kWarpThreads / kRowLanes;  // that one instruction copies

  // Not all dimensions keep all lanes busy.
  __device__ bool is_idle() const { return kWarpThreads % kRowLanes != 0 && lane_row_ >= kRows; }

  // Where this lane's piece of row `row` + lane_row_ goes; `row` is a multiple of kRows, so that
  // the turns of both add up.
  __device__ char* place(int row) const {
    const int turned = 16 * piece_ ^ tile_turn<kDim>(lane_row_);
    return Base::newest() + (lane_row_ + row) * 2 * kDim + (turned ^ tile_turn<kDim>(row));
  }

  int lane_row_;
  int piece_;
  std::uint64_t policy_;
};

}  // namespace sift::cuda
