#pragma once

#include "sift/kernels/cuda/decode_kernel.cuh"
#include "sift/kernels/cuda/decode_launch.h"
#include "sift/kernels/cuda/decode_merge.cuh"

namespace sift::cuda {

/// The kernels of one head dimension, exact or estimating; one translation unit each, since they
/// compile slowly.
template <int kDim, bool kEstimates>
struct DecodeKernels {
  static cudaError_t prepare(const DecodeKernelChoice& choice, DecodeBlocks& per_processor);
  static cudaError_t launch(const DecodeKernelChoice& choice, const DecodeBlocks& blocks,
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

/// What with_decode_kernels calls its argument with.
template <class T, int kDim, int kMostHeads, bool kEstimates>
struct DecodeKernelSet {
  using ReadingShared = BlockShared<kDim, kMostHeads>;
  using CandidatesShared = cuda::CandidatesShared<kMostHeads>;
  using ValuesShared = cuda::ValuesShared<kDim, kMostHeads, kEstimates>;
  static constexpr auto* kReading = reading_kernel<T, kDim, kMostHeads, kEstimates>;
  static constexpr auto* kCandidates = candidates_kernel<T, kDim, kMostHeads>;
  static constexpr auto* kValues = values_kernel<T, kDim, kMostHeads, kEstimates>;
  static constexpr auto* kMerge = merge_kernel<T, kDim>;
};

template <int kDim, int kMostHeads, bool kEstimates, class Call>
cudaError_t with_decode_kernels(const DecodeKernelChoice& choice, Call&& call) {
  if (choice.bf16) return call(DecodeKernelSet<__nv_bfloat16, kDim, kMostHeads, kEstimates>());
  return call(DecodeKernelSet<__half, kDim, kMostHeads, kEstimates>());
}

template <int kDim, bool kEstimates, class Call>
cudaError_t with_decode_kernels(const DecodeKernelChoice& choice, Call&& call) {
  switch (choice.most_heads) {
    case 4:
      return with_decode_kernels<kDim, 4, kEstimates>(choice, call);
    case 8:
      return with_decode_kernels<kDim, 8, kEstimates>(choice, call);
    default:
      return with_decode_kernels<kDim, 16, kEstimates>(choice, call);
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

/// Readies a kernel that needs `shared` bytes and tells how many blocks fit a multiprocessor.
template <class Kernel>
cudaError_t ready_kernel(Kernel* kernel, std::size_t shared, int& per_processor) {
  cudaError_t status = allow_shared_memory(kernel, shared);
  if (status == cudaSuccess) status = want_most_shared_memory(kernel);
  if (status != cudaSuccess) return status;
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, kBlockThreads,
                                                       shared);
}

template <int kDim, bool kEstimates>
cudaError_t DecodeKernels<kDim, kEstimates>::prepare(const DecodeKernelChoice& choice,
                                                     DecodeBlocks& per_processor) {
  return with_decode_kernels<kDim, kEstimates>(choice, [&](auto kernels) {
    using Set = decltype(kernels);
    const int batch = choice.batch;
    cudaError_t status = ready_kernel(
        Set::kReading, Set::ReadingShared::bytes(batch), per_processor.reading);
    if (status == cudaSuccess && kEstimates) {
      status = ready_kernel(Set::kCandidates, shared_bytes<typename Set::CandidatesShared>(batch),
                            per_processor.candidates);
    }
    if (status == cudaSuccess) {
      status = ready_kernel(Set::kValues, shared_bytes<typename Set::ValuesShared>(batch),
                            per_processor.values);
    }
    if (status == cudaSuccess) status = want_most_shared_memory(Set::kMerge);
    return status;
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
cudaError_t DecodeKernels<kDim, kEstimates>::launch(const DecodeKernelChoice& choice,
                                                    const DecodeBlocks& blocks,
                                                    const DecodeArguments& arguments,
                                                    const DecodeWorkspace& workspace,
                                                    cudaStream_t stream) {
  return with_decode_kernels<kDim, kEstimates>(choice, [&](auto kernels) {
    using Set = decltype(kernels);
    const auto behind = [&](auto* kernel, int count, int threads, std::size_t shared) {
      return launch_behind(kernel, count, threads, shared, choice.overlaps, arguments, workspace,
                           stream);
    };
    const bool may_sift = arguments.modes != nullptr || arguments.method.head_states != nullptr;
    cudaError_t status = behind(Set::kReading, blocks.reading, kBlockThreads,
                                Set::ReadingShared::bytes(choice.batch));
    if (status == cudaSuccess && may_sift && kEstimates) {
      status = behind(Set::kCandidates, blocks.candidates, kBlockThreads,
                      shared_bytes<typename Set::CandidatesShared>(choice.batch));
    }
    if (status == cudaSuccess && may_sift) {
      status = behind(Set::kValues, blocks.values, kBlockThreads,
                      shared_bytes<typename Set::ValuesShared>(choice.batch));
    }
    if (status != cudaSuccess) return status;
    return behind(Set::kMerge, arguments.batch * arguments.kv_heads, kMergeThreads, 0);
  });
}

}  // namespace sift::cuda
