#pragma once

#include <cuda_runtime_api.h>

#include "sift/kernels/cuda/decode_attention.h"
#include "sift/kernels/cuda/decode_workspace.h"

namespace sift::cuda {

/// Which of the compiled kernels serves a shape.
struct DecodeKernelChoice {
  int head_dim = 0;        ///< 64, 96, 128 or 256
  bool bf16 = false;       ///< else f16
  int most_heads = 0;      ///< of a group: 4, 8 or 16
  int batch = 0;           ///< at most
  bool estimates = false;  ///< scores of sifted requests are estimated first
  bool overlaps = false;   ///< kernels may begin while the one before them ends
};

/// All that the launches of a step need.
struct DecodeLaunch {
  DecodeKernelChoice choice;
  DecodeBlocks blocks;
  DecodeArguments arguments;
  DecodeWorkspace workspace;
  cudaStream_t stream = nullptr;
};

/// Whether kernels wait by themselves for the one before. What was compiled decides, not the
/// device: code for sm_80 does not.
cudaError_t decode_overlaps(const DecodeKernelChoice& choice, bool& overlaps);

/// Readies the kernels on the current device and tells how many of their blocks fit a
/// multiprocessor.
cudaError_t prepare_decode(const DecodeKernelChoice& choice, DecodeBlocks& per_processor);

cudaError_t launch_decode(const DecodeLaunch& launch);

}  // namespace sift::cuda
