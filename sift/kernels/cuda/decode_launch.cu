#include "sift/kernels/cuda/decode_launch.cuh"

namespace sift::cuda {
namespace {

template <bool kEstimates, class Call>
cudaError_t with_dimension(int head_dim, Call&& call) {
  switch (head_dim) {
    case 64:
      return call(DecodeKernels<64, kEstimates>());
    case 96:
      return call(DecodeKernels<96, kEstimates>());
    case 128:
      return call(DecodeKernels<128, kEstimates>());
    default:
      return call(DecodeKernels<256, kEstimates>());
  }
}

template <class Call>
cudaError_t with_kernels(const DecodeKernelChoice& choice, Call&& call) {
  return choice.estimates ? with_dimension<true>(choice.head_dim, call)
                          : with_dimension<false>(choice.head_dim, call);
}

}  // namespace

cudaError_t prepare_decode(const DecodeKernelChoice& choice, DecodeBlocks& per_processor) {
  return with_kernels(choice, [&](auto kernels) {
    return decltype(kernels)::prepare(choice, per_processor);
  });
}

cudaError_t launch_decode(const DecodeKernelChoice& choice, const DecodeBlocks& blocks,
                          const DecodeArguments& arguments, const DecodeWorkspace& workspace,
                          cudaStream_t stream) {
  return with_kernels(choice, [&](auto kernels) {
    return decltype(kernels)::launch(choice, blocks, arguments, workspace, stream);
  });
}

}  // namespace sift::cuda
