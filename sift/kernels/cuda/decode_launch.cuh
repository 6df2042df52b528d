#pragma once

#include "sift/kernels/cuda/decode_kernel.cuh"
#include "sift/kernels/cuda/decode_launch.h"
#include "sift/kernels/cuda/decode_merge.cuh"

namespace sift::cuda {

/// The kernels of one head dimension, exact or estimating; one translation unit each, since they
/// compile slowly.
template <int kDim, bool kEstimates>
struct DecodeKernels {
  static cudaError_t prepare(const DecodeKernelChoice& choice, int& blocks_per_processor);
  static cudaError_t launch(const DecodeKernelChoice& choice, int blocks,
                            const DecodeArguments& arguments, const DecodeWorkspace& workspace,
                            cudaStream_t stream);
};

extern template struct DecodeKernels<64, false>;
extern template struct DecodeKernels<96, false>;
extern template struct DecodeKernels<128, false>;
extern template struct DecodeKernels<256, false>;
extern template struct DecodeKernels<64, true>;
extern template struct DecodeKernels<96, true>;
extern template struct DecodeKernels<128, true>;
extern template struct DecodeKernels<256, true>;

/// What with_decode_kernel calls its argument with.
template <class T, int kDim, int kMostHeads, bool kEstimates>
struct DecodeKernel {
  using Shared = BlockShared<kDim, kMostHeads, kEstimates>;
  static constexpr auto* kAttend = decode_kernel<T, kDim, kMostHeads, kEstimates>;
  static constexpr auto* kMerge = merge_kernel<T, kDim>;
};

template <int kDim, int kMostHeads, bool kEstimates, class Call>
cudaError_t with_decode_kernel(const DecodeKernelChoice& choice, Call&& call) {
  if (choice.bf16) return call(DecodeKernel<__nv_bfloat16, kDim, kMostHeads, kEstimates>());
  return call(DecodeKernel<__half, kDim, kMostHeads, kEstimates>());
}

template <int kDim, bool kEstimates, class Call>
cudaError_t with_decode_kernel(const DecodeKernelChoice& choice, Call&& call) {
  switch (choice.most_heads) {
    case 4:
      return with_decode_kernel<kDim, 4, kEstimates>(choice, call);
    case 8:
      return with_decode_kernel<kDim, 8, kEstimates>(choice, call);
    default:
      return with_decode_kernel<kDim, 16, kEstimates>(choice, call);
  }
}

/// Lets a kernel have `bytes` of shared memory. The limit is the kernel's, not the plan's: an
/// earlier plan may need more, so it is only ever raised.
template <class Kernel>
cudaError_t allow_shared_memory(Kernel* kernel, std::size_t bytes) {
  cudaFuncAttributes attributes = {};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status != cudaSuccess) return status;
  if (bytes <= static_cast<std::size_t>(attributes.maxDynamicSharedSizeBytes)) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

/// Asks for the largest division of a multiprocessor's memory for shared memory. Kernels that
/// overlap should want the same: another one waits until the multiprocessor is empty.
template <class Kernel>
cudaError_t want_most_shared_memory(Kernel* kernel) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                              cudaSharedmemCarveoutMaxShared);
}

template <int kDim, bool kEstimates>
cudaError_t DecodeKernels<kDim, kEstimates>::prepare(const DecodeKernelChoice& choice,
                                                     int& blocks_per_processor) {
  return with_decode_kernel<kDim, kEstimates>(choice, [&](auto kernel) {
    const std::size_t shared = decltype(kernel)::Shared::bytes(choice.batch);
    cudaError_t status = allow_shared_memory(kernel.kAttend, shared);
    if (status == cudaSuccess) status = want_most_shared_memory(kernel.kAttend);
    if (status == cudaSuccess) status = want_most_shared_memory(kernel.kMerge);
    if (status != cudaSuccess) return status;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks_per_processor, kernel.kAttend,
                                                         kBlockThreads, shared);
  });
}

/// Launches a kernel that waits by itself for the one before it, where devices can do that.
template <class Kernel>
cudaError_t launch_behind(Kernel* kernel, int blocks, int threads, std::size_t shared,
                          bool overlaps, const DecodeArguments& arguments,
                          const DecodeWorkspace& workspace, cudaStream_t stream) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlaps ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, arguments, workspace);
}

template <int kDim, bool kEstimates>
cudaError_t DecodeKernels<kDim, kEstimates>::launch(const DecodeKernelChoice& choice, int blocks,
                                                    const DecodeArguments& arguments,
                                                    const DecodeWorkspace& workspace,
                                                    cudaStream_t stream) {
  return with_decode_kernel<kDim, kEstimates>(choice, [&](auto kernel) {
    const cudaError_t status = launch_behind(kernel.kAttend, blocks, kBlockThreads,
                                             decltype(kernel)::Shared::bytes(choice.batch),
                                             choice.overlaps, arguments, workspace, stream);
    if (status != cudaSuccess) return status;
    return launch_behind(kernel.kMerge, arguments.batch * arguments.kv_heads, kMergeThreads, 0,
                         choice.overlaps, arguments, workspace, stream);
  });
}

}  // namespace sift::cuda
