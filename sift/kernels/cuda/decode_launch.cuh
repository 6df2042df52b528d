#pragma once

#include "sift/kernels/cuda/decode_kernel.cuh"
#include "sift/kernels/cuda/decode_launch.h"

namespace sift::cuda {

/// The kernels of one head dimension; one translation unit each, since they compile slowly.
template <int kDim>
struct DecodeKernels {
  static cudaError_t prepare(const DecodeKernelChoice& choice, int& blocks_per_processor);
  static cudaError_t launch(const DecodeKernelChoice& choice, int blocks,
                            const DecodeArguments& arguments, const DecodeWorkspace& workspace,
                            cudaStream_t stream);
};

extern template struct DecodeKernels<64>;
extern template struct DecodeKernels<96>;
extern template struct DecodeKernels<128>;
extern template struct DecodeKernels<256>;

template <int kDim, int kMostHeads, class Call>
cudaError_t with_decode_kernel(const DecodeKernelChoice& choice, Call&& call) {
  constexpr std::size_t kShared = sizeof(SharedLayout<kDim, kMostHeads>);
  if (choice.bf16) return call(decode_kernel<__nv_bfloat16, kDim, kMostHeads>, kShared);
  return call(decode_kernel<__half, kDim, kMostHeads>, kShared);
}

template <int kDim, class Call>
cudaError_t with_decode_kernel(const DecodeKernelChoice& choice, Call&& call) {
  switch (choice.most_heads) {
    case 4:
      return with_decode_kernel<kDim, 4>(choice, call);
    case 8:
      return with_decode_kernel<kDim, 8>(choice, call);
    default:
      return with_decode_kernel<kDim, 16>(choice, call);
  }
}

template <int kDim>
cudaError_t DecodeKernels<kDim>::prepare(const DecodeKernelChoice& choice,
                                         int& blocks_per_processor) {
  return with_decode_kernel<kDim>(choice, [&](auto kernel, std::size_t shared) {
    const cudaError_t status = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (status != cudaSuccess) return status;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks_per_processor, kernel,
                                                         kBlockThreads, shared);
  });
}

template <int kDim>
cudaError_t DecodeKernels<kDim>::launch(const DecodeKernelChoice& choice, int blocks,
                                        const DecodeArguments& arguments,
                                        const DecodeWorkspace& workspace, cudaStream_t stream) {
  return with_decode_kernel<kDim>(choice, [&](auto kernel, std::size_t shared) {
    kernel<<<blocks, kBlockThreads, shared, stream>>>(arguments, workspace);
    return cudaGetLastError();
  });
}

}  // namespace sift::cuda
