#pragma once

#include <algorithm>
#include <limits>

#include "sift/kernels/cuda/decode_kernel.cuh"
#include "sift/kernels/cuda/decode_launch.h"
#include "sift/kernels/cuda/decode_merge.cuh"

namespace sift::cuda {

/// The kernels of one head dimension; a translation unit each, since they compile slowly.
template <int kDim>
struct DecodeKernels {
  static cudaError_t overlap(const DecodeKernelChoice& choice, bool& overlaps);
  static cudaError_t prepare(const DecodeKernelChoice& choice, DecodeBlocks& per_processor);
  static cudaError_t launch_dense(const DecodeLaunch& launch);
  static cudaError_t launch_sifted(const DecodeLaunch& launch);
  static cudaError_t launch_merge(const DecodeLaunch& launch);
};

/// The kernels of requests that sift by estimates, likewise.
template <int kDim>
struct EstimateKernels {
  static cudaError_t prepare(const DecodeKernelChoice& choice, DecodeBlocks& per_processor);
  static cudaError_t launch_sifted(const DecodeLaunch& launch);
};

extern template struct DecodeKernels<64>;
extern template struct DecodeKernels<96>;
extern template struct DecodeKernels<128>;
extern template struct DecodeKernels<256>;
extern template struct EstimateKernels<64>;
extern template struct EstimateKernels<96>;
extern template struct EstimateKernels<128>;
extern template struct EstimateKernels<256>;

/// What with_decode_kernels calls its argument with.
template <class T, int kDim, int kMostHeads>
struct DecodeKernelSet {
  static constexpr int kHeadTiles = kMostHeads > 8 ? 2 : 1;
  template <bool kEstimates>
  using Values = ValuesShared<kDim, kMostHeads, kEstimates>;
  using Dense = BlockShared<kDim, kMostHeads>;
  using Candidates = CandidatesShared<kDim, kMostHeads>;
  static constexpr auto* kDense = dense_kernel<T, kDim, kMostHeads>;
  using Keys = KeySource<T, kDim, kHeadTiles>;
  using Scores = ScoresShared<Keys, kMostHeads>;
  static constexpr auto* kScores = scores_kernel<Keys, kDim, kMostHeads>;
  /// kBlock: values that share a scale, or 0 for fp8.
  template <int kBlock>
  using Shadows = ShadowSource<T, kDim, kMostHeads, kBlock>;
  template <int kBlock>
  static constexpr auto* kEstimates = scores_kernel<Shadows<kBlock>, kDim, kMostHeads>;
  /// That of a format; a head of 96 values has blocks of 32 alone.
  static auto* estimates(const KeyShadowFormat& format) {
    if (format.code == ShadowCode::fp8) return kEstimates<0>;
    return format.block == 32 ? kEstimates<32> : kEstimates < kDim % 64 == 0 ? 64 : 32 > ;
  }
  static std::size_t estimates_shared(int batch) {
    return shared_bytes<ScoresShared<Shadows<32>, kMostHeads>>(batch);  // the same for all formats
  }
  static constexpr auto* kCandidates = candidates_kernel<T, kDim, kMostHeads>;
  template <bool kOfCandidates>
  static constexpr auto* kValues = values_kernel<T, kDim, kMostHeads, kOfCandidates>;
  static constexpr auto* kMerge = merge_kernel<T, kDim>;
};

template <int kDim, int kMostHeads, class Call>
cudaError_t with_decode_kernels(const DecodeKernelChoice& choice, Call&& call) {
  if (choice.bf16) return call(DecodeKernelSet<__nv_bfloat16, kDim, kMostHeads>());
  return call(DecodeKernelSet<__half, kDim, kMostHeads>());
}

template <int kDim, class Call>
cudaError_t with_decode_kernels(const DecodeKernelChoice& choice, Call&& call) {
  switch (choice.most_heads) {
    case 4:
      return with_decode_kernels<kDim, 4>(choice, call);
    case 8:
      return with_decode_kernels<kDim, 8>(choice, call);
    default:
      return with_decode_kernels<kDim, 16>(choice, call);
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

/// Launches a kernel that waits by itself for the one before it, where devices can do that.
template <class Kernel>
cudaError_t launch_behind(Kernel* kernel, int blocks, int threads, std::size_t shared,
                          const DecodeLaunch& launch) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = launch.stream;
  config.attrs = &attribute;
  config.numAttrs = launch.choice.overlaps ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, launch.arguments, launch.workspace);
}

template <int kDim>
cudaError_t DecodeKernels<kDim>::overlap(const DecodeKernelChoice& choice, bool& overlaps) {
  return with_decode_kernels<kDim>(choice, [&](auto kernels) {
    cudaFuncAttributes attributes = {};
    const cudaError_t status = cudaFuncGetAttributes(&attributes, decltype(kernels)::kMerge);
    overlaps = status == cudaSuccess && attributes.ptxVersion >= 90;
    return status;
  });
}

template <int kDim>
cudaError_t DecodeKernels<kDim>::prepare(const DecodeKernelChoice& choice,
                                         DecodeBlocks& per_processor) {
  return with_decode_kernels<kDim>(choice, [&](auto kernels) {
    using Set = decltype(kernels);
    const int batch = choice.batch;
    cudaError_t status = ready_kernel(Set::kDense, Set::Dense::bytes(batch), per_processor.dense);
    if (status == cudaSuccess) {
      status = ready_kernel(Set::kScores, shared_bytes<typename Set::Scores>(batch),
                            per_processor.scores);
    }
    if (status == cudaSuccess) {
      status = ready_kernel(Set::template kValues<false>,
                            shared_bytes<typename Set::template Values<false>>(batch),
                            per_processor.values);
    }
    if (status == cudaSuccess) status = want_most_shared_memory(Set::kMerge);
    return status;
  });
}

template <int kDim>
cudaError_t DecodeKernels<kDim>::launch_dense(const DecodeLaunch& launch) {
  return with_decode_kernels<kDim>(launch.choice, [&](auto kernels) {
    using Set = decltype(kernels);
    return launch_behind(Set::kDense, launch.blocks.dense, kBlockThreads,
                         Set::Dense::bytes(launch.choice.batch), launch);
  });
}

template <int kDim>
cudaError_t DecodeKernels<kDim>::launch_sifted(const DecodeLaunch& launch) {
  return with_decode_kernels<kDim>(launch.choice, [&](auto kernels) {
    using Set = decltype(kernels);
    const int batch = launch.choice.batch;
    const cudaError_t status = launch_behind(Set::kScores, launch.blocks.scores, kBlockThreads,
                                             shared_bytes<typename Set::Scores>(batch), launch);
    if (status != cudaSuccess) return status;
    return launch_behind(Set::template kValues<false>, launch.blocks.values, kBlockThreads,
                         shared_bytes<typename Set::template Values<false>>(batch), launch);
  });
}

template <int kDim>
cudaError_t DecodeKernels<kDim>::launch_merge(const DecodeLaunch& launch) {
  return with_decode_kernels<kDim>(launch.choice, [&](auto kernels) {
    return launch_behind(decltype(kernels)::kMerge,
                         launch.arguments.batch * launch.arguments.kv_heads, kMergeThreads, 0,
                         launch);
  });
}

template <int kDim>
cudaError_t EstimateKernels<kDim>::prepare(const DecodeKernelChoice& choice,
                                           DecodeBlocks& per_processor) {
  return with_decode_kernels<kDim>(choice, [&](auto kernels) {
    using Set = decltype(kernels);
    const int batch = choice.batch;
    cudaError_t status = cudaSuccess;
    int least = std::numeric_limits<int>::max();
    for (const KeyShadowFormat& format :
         {KeyShadowFormat{ShadowCode::bits4, 32}, KeyShadowFormat{ShadowCode::bits4, 64},
          KeyShadowFormat{ShadowCode::fp8}}) {
      if (status != cudaSuccess) return status;
      int fit = 0;
      status = ready_kernel(Set::estimates(format), Set::estimates_shared(batch), fit);
      least = std::min(least, fit);
    }
    per_processor.scores = least;
    if (status == cudaSuccess) {
      status = ready_kernel(Set::kCandidates, shared_bytes<typename Set::Candidates>(batch),
                            per_processor.candidates);
    }
    if (status == cudaSuccess) {
      status = ready_kernel(Set::template kValues<true>,
                            shared_bytes<typename Set::template Values<true>>(batch),
                            per_processor.values);
    }
    return status;
  });
}

template <int kDim>
cudaError_t EstimateKernels<kDim>::launch_sifted(const DecodeLaunch& launch) {
  return with_decode_kernels<kDim>(launch.choice, [&](auto kernels) {
    using Set = decltype(kernels);
    const int batch = launch.choice.batch;
    const auto behind = [&](auto* kernel, int blocks, std::size_t shared) {
      return launch_behind(kernel, blocks, kBlockThreads, shared, launch);
    };
    const KeyShadowFormat& format = launch.arguments.shadows.format;
    cudaError_t status =
        behind(Set::estimates(format), launch.blocks.scores, Set::estimates_shared(batch));
    if (status == cudaSuccess) {
      status = behind(Set::kCandidates, launch.blocks.candidates,
                      shared_bytes<typename Set::Candidates>(batch));
    }
    if (status != cudaSuccess) return status;
    return behind(Set::template kValues<true>, launch.blocks.values,
                  shared_bytes<typename Set::template Values<true>>(batch));
  });
}

}  // namespace sift::cuda
