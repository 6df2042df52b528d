#include "sift/kernels/cuda/decode_launch.cuh"

namespace sift::cuda {
namespace {

/// Calls call(DecodeKernels, EstimateKernels) of a head dimension.
template <class Call>
cudaError_t with_dimension(int head_dim, Call&& call) {
  switch (head_dim) {
    case 64:
      return call(DecodeKernels<64>(), EstimateKernels<64>());
    case 96:
      return call(DecodeKernels<96>(), EstimateKernels<96>());
    case 128:
      return call(DecodeKernels<128>(), EstimateKernels<128>());
    default:
      return call(DecodeKernels<256>(), EstimateKernels<256>());
  }
}

}  // namespace

cudaError_t decode_overlaps(const DecodeKernelChoice& choice, bool& overlaps) {
  return with_dimension(choice.head_dim,
                        [&](auto exact, auto) { return exact.overlap(choice, overlaps); });
}

cudaError_t prepare_decode(const DecodeKernelChoice& choice, DecodeBlocks& per_processor) {
  return with_dimension(choice.head_dim, [&](auto exact, auto estimated) {
    const cudaError_t status = exact.prepare(choice, per_processor);
    if (status != cudaSuccess || !choice.estimates) return status;
    return estimated.prepare(choice, per_processor);
  });
}

cudaError_t launch_decode(const DecodeLaunch& launch) {
  const DecodeArguments& a = launch.arguments;
  const bool may_sift = !a.gated && (a.modes != nullptr || a.method.head_states != nullptr);
  return with_dimension(launch.choice.head_dim, [&](auto exact, auto estimated) {
    cudaError_t status = cudaSuccess;
    if (a.exact) status = exact.launch_dense(launch);
    if (status == cudaSuccess && may_sift) {
      status =
          launch.choice.estimates ? estimated.launch_sifted(launch) : exact.launch_sifted(launch);
    }
    return status == cudaSuccess ? exact.launch_merge(launch) : status;
  });
}

}  // namespace sift::cuda
