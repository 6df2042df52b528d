#include "sift/kernels/cuda/decode_launch.cuh"

namespace sift::cuda {
template struct EstimateKernels<64>;
}  // namespace sift::cuda
