#pragma once

#include <cstdint>

#include "sift/kernels/cuda/block_team.cuh"
#include "sift/kernels/cuda/device_primitives.cuh"

namespace sift::cuda {

using Count = std::uint32_t;

/// One of a row of bins in which values were counted.
struct Bin {
  std::uint32_t index;
  Count before;  ///< values in the bins before it
  Count count;
};

/// Searches kBins counts that every block of a team holds a part of. One warp does it together;
/// its lanes take four bins each, in rows of 128 bins.
template <int kBins>
class BinSearch {
 public:
  /// `counts`: [kBins] in shared memory, at the same place in all blocks, 16-byte aligned.
  __device__ BinSearch(const BlockTeam& team, const Count* counts)
      : team_(team), counts_(counts), lane_(threadIdx.x % kWarpThreads) {}

  /// The bin that holds value number `rank`, from 0; the last one if there are not as many.
  __device__ Bin find(Count rank) const {
    Count sums[kRows] = {};
    for (int block = 0; block < team_.size(); ++block) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) sums[row] += sum_of(counts_of(block, row));
    }
    Count before = 0;
    int found = kRows;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const Count total = __reduce_add_sync(kAllLanes, sums[row]);
      if (found == kRows && before + total > rank) found = row;
      if (found == kRows) before += total;
    }
    return find_in_row(min(found, kRows - 1), before, rank);
  }

 private:
  static constexpr int kRows = kBins / 128;

  __device__ uint4 counts_of(int block, int row) const {
    return reinterpret_cast<const uint4*>(team_.at(counts_, block))[row * kWarpThreads + lane_];
  }
  __device__ static Count sum_of(const uint4& four) { return four.x + four.y + four.z + four.w; }

  // `before`: values in the rows before.
  __device__ Bin find_in_row(int row, Count before, Count rank) const {
    uint4 four{0, 0, 0, 0};
    for (int block = 0; block < team_.size(); ++block) {
      const uint4 part = counts_of(block, row);
      four = {four.x + part.x, four.y + part.y, four.z + part.z, four.w + part.w};
    }
    const Count end = before + sum_of_lanes_up_to_this(sum_of(four));
    Bin bin{(row * kWarpThreads + lane_) * 4, end - sum_of(four), four.x};
    const Count later[3] = {four.y, four.z, four.w};
#pragma unroll
    for (const Count count : later) {
      if (rank >= bin.before + bin.count) bin = {bin.index + 1, bin.before + bin.count, count};
    }
    const unsigned reached = __ballot_sync(kAllLanes, end > rank);
    const int finder = reached == 0 ? kWarpThreads - 1 : __ffs(static_cast<int>(reached)) - 1;
    return {__shfl_sync(kAllLanes, bin.index, finder), __shfl_sync(kAllLanes, bin.before, finder),
            __shfl_sync(kAllLanes, bin.count, finder)};
  }

  __device__ Count sum_of_lanes_up_to_this(Count sum) const {
    for (unsigned distance = 1; distance < kWarpThreads; distance *= 2) {
      const Count other = __shfl_up_sync(kAllLanes, sum, distance);
      if (lane_ >= distance) sum += other;
    }
    return sum;
  }

  const BlockTeam& team_;
  const Count* counts_;
  unsigned lane_;
};

}  // namespace sift::cuda
