#include "sift/kernels/cuda/decode_launch.cuh"

namespace sift::cuda {
template struct DecodeKernels<128>;
}  // namespace sift::cuda
