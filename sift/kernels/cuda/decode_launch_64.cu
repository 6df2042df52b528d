#include "sift/kernels/cuda/decode_launch.cuh"

namespace sift::cuda {
template struct DecodeKernels<64>;
}  // namespace sift::cuda
