#include "sift/kernels/cuda/decode_launch.cuh"

namespace sift::cuda {
namespace {

template <class Call>
cudaError_t with_dimension(int head_dim, Call&& call) {
  switch (head_dim) {
    case 64:
      return call(DecodeKernels<64>());
    case 96:
      return call(DecodeKernels<96>());
    case 128:
      return call(DecodeKernels<128>());
    default:
      return call(DecodeKernels<256>());
  }
}

}  // namespace

cudaError_t prepare_decode(const DecodeKernelChoice& choice, int& blocks_per_processor) {
  return with_dimension(choice.head_dim, [&](auto kernels) {
    return decltype(kernels)::prepare(choice, blocks_per_processor);
  });
}

cudaError_t launch_decode(const DecodeKernelChoice& choice, int blocks,
                          const DecodeArguments& arguments, const DecodeWorkspace& workspace,
                          cudaStream_t stream) {
  return with_dimension(choice.head_dim, [&](auto kernels) {
    return decltype(kernels)::launch(choice, blocks, arguments, workspace, stream);
  });
}

}  // namespace sift::cuda
