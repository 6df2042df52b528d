#pragma once

#include <cooperative_groups.h>

namespace sift::cuda {

/// The blocks that work on one thing together and read each other's shared memory: the cluster that
/// a kernel was launched with, or one block, all that there is before sm_90. A block must not end
/// while another may still read from it: the last use of at() is followed by a sync().
class BlockTeam {
 public:
#if __CUDA_ARCH__ >= 900
  __device__ int rank() const {
    return static_cast<int>(cooperative_groups::this_cluster().block_rank());
  }
  __device__ int size() const {
    return static_cast<int>(cooperative_groups::this_cluster().num_blocks());
  }
  /// Waits for all threads of all blocks; what they wrote before is seen after.
  __device__ void sync() const { cooperative_groups::this_cluster().sync(); }
  /// Where `shared`, which points into shared memory, lies in block `rank`.
  template <class T>
  __device__ T* at(T* shared, int rank) const {
    return cooperative_groups::this_cluster().map_shared_rank(shared, rank);
  }
#else
  __device__ int rank() const { return 0; }
  __device__ int size() const { return 1; }
  __device__ void sync() const { __syncthreads(); }
  template <class T>
  __device__ T* at(T* shared, int) const {
    return shared;
  }
#endif
};

}  // namespace sift::cuda
