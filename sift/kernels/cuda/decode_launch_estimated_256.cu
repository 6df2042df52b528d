#include "sift/kernels/cuda/decode_launch.cuh"

namespace sift::cuda {
template struct EstimateKernels<256>;
}  // namespace sift::cuda
