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
template <int kDim, int kStages>
struct TileMemory {
  alignas(128) char rows[kStages][kTileKeys * 2 * kDim];
};

/// Groups of a thread's asynchronous copies, which land in the order in which they were closed.
class CopyGroups {
 public:
  __device__ unsigned close() {
    commit_copies();
    return ++closed_;
  }
  /// Waits for a group, of which the lowest 8 bits are enough, in all lanes.
  __device__ void wait_for(unsigned group) const {
    switch (closed_ - group & 0xffU) {
      case 0:
        wait_copies<0>();
        break;
      case 1:
        wait_copies<1>();
        break;
      case 2:
        wait_copies<2>();
        break;
      case 3:
        wait_copies<3>();
        break;
      default:
        wait_copies<4>();
        break;
    }
    __syncwarp();
  }

 private:
  unsigned closed_ = 0;
};

template <int kDim, int kStages>
class TileRing {
 public:
  using Memory = TileMemory<kDim, kStages>;

  __device__ TileRing(Memory& memory, int lane, std::uint64_t policy)
      : memory_(memory), lane_row_(lane / kRowLanes), piece_(lane % kRowLanes), policy_(policy) {}

  __device__ bool has_room() const { return count_ < kStages; }
  __device__ bool empty() const { return count_ == 0; }
  /// Tiles that were issued after the oldest one.
  __device__ int behind() const { return count_ - 1; }

  /// Starts copying the first `rows` of 16 rows, which lie `stride` bytes apart from `first` on;
  /// the others become zeros. REQUIRES: rows ≥ 1.
  __device__ void issue(CopyGroups& groups, int rows, const char* first, std::int64_t stride) {
    if (is_idle()) {
    } else if (rows >= kTileKeys) {
      const char* from = first + lane_row_ * stride + 16 * piece_;
#pragma unroll
      for (int i = 0; i < kTileKeys; i += kRows) {
        copy_once_16(place(i), from, policy_);
        from += kRows * stride;
      }
    } else {
      issue_some(rows, [&](int row) { return first + row * stride; });
    }
    issue_nothing(groups);
  }

  /// The same for rows that lie 16 · offsets[row] bytes from `side` on.
  __device__ void issue(CopyGroups& groups, int rows, const char* side,
                        const std::uint32_t* offsets) {
    if (is_idle()) {
    } else if (rows >= kTileKeys) {
      const char* from = side + 16 * piece_;
#pragma unroll
      for (int i = 0; i < kTileKeys; i += kRows) {
        copy_once_16(place(i), from + std::uint64_t{offsets[i + lane_row_]} * 16, policy_);
      }
    } else {
      issue_some(rows, [&](int row) { return side + std::uint64_t{offsets[row]} * 16; });
    }
    issue_nothing(groups);
  }

  /// Starts copying bytes, a multiple of 16, to a place within that of the next tile, which
  /// issue_nothing then takes.
  __device__ void copy_block(int to, const char* from, int bytes) {
    for (int i = 16 * (lane_row_ * kRowLanes + piece_); i < bytes; i += 16 * kWarpThreads) {
      copy_once_16(memory_.rows[newest_] + to + i, from + i, policy_);
    }
  }

  /// Takes a place of the ring without copying anything more.
  __device__ void issue_nothing(CopyGroups& groups) {
    group_of_tile_ = group_of_tile_ << 8 | (groups.close() & 0xffU);
    newest_ = next(newest_);
    ++count_;
  }

  /// Waits for the oldest tile.
  __device__ const char* wait(const CopyGroups& groups) {
    groups.wait_for(group_of_tile_ >> 8 * behind());
    return memory_.rows[oldest_];
  }
  /// The oldest tile is not read any more.
  __device__ void release() {
    __syncwarp();
    oldest_ = next(oldest_);
    --count_;
  }

 private:
  static_assert(kStages <= 4, "group_of_tile_ has 8 bits for each");
  static constexpr int kRowLanes = kDim / 8;              // that copy one row, 16 bytes each
  static constexpr int kRows = kWarpThreads / kRowLanes;  // that one instruction copies

  // Not all dimensions keep all lanes busy.
  __device__ bool is_idle() const { return kWarpThreads % kRowLanes != 0 && lane_row_ >= kRows; }
  static __device__ int next(int place) { return place + 1 == kStages ? 0 : place + 1; }

  // Where this lane's piece of row `row` + lane_row_ goes; `row` is a multiple of kRows, so that
  // the turns of both add up.
  __device__ char* place(int row) const {
    const int turned = 16 * piece_ ^ tile_turn<kDim>(lane_row_);
    return memory_.rows[newest_] + (lane_row_ + row) * 2 * kDim + (turned ^ tile_turn<kDim>(row));
  }

  template <class RowOf>
  __device__ void issue_some(int rows, const RowOf& row_of) {
#pragma unroll 2
    for (int i = 0; i < kTileKeys; i += kRows) {
      const int row = i + lane_row_;
      copy_once_16_or_clear(place(i), row_of(min(row, rows - 1)) + 16 * piece_, row < rows,
                            policy_);
    }
  }

  Memory& memory_;
  int lane_row_;
  int piece_;
  std::uint64_t policy_;
  int newest_ = 0;  // the place that is issued to next
  int oldest_ = 0;
  int count_ = 0;
  unsigned group_of_tile_ = 0;  // of each tile, the newest in the lowest bits
};

}  // namespace sift::cuda
