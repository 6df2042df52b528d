#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "sift/core/dtype.h"
#include "sift/kernels/cuda/decode_arguments.h"
#include "sift/kernels/cuda/record_quantiles.h"

namespace sift::cuda {

/// Sizes that a workspace has to serve.
struct DecodeCapacity {
  int batch = 0;  ///< 1 to 512
  int heads = 0;  ///< query heads, at most 16 per KV head
  int kv_heads = 0;
  int head_dim = 0;          ///< 64, 96, 128 or 256
  std::int64_t keys = 0;     ///< visible keys of all requests together, at most
  std::int64_t longest = 0;  ///< visible keys of one request, at most; 0: `keys`, at most 262,144
  bool estimates = false;    ///< whether arguments may have shadows
};

/// Bytes of workspace for decode_attention. Throws Error (invalid_argument) for sizes that it does
/// not serve.
std::size_t decode_workspace_bytes(const DecodeCapacity& capacity);

/// Blocks of each kernel of a step.
struct DecodeBlocks {
  int dense = 0;
  int scores = 0;
  int candidates = 0;  ///< where scores are estimated
  int values = 0;
};

/// Decode attention over a cache whose type is f16 or bf16. The plan knows the device and the
/// workspace; run() only launches, so it may be captured in a CUDA graph, and arrays that the
/// arguments point to may change between replays, within the capacity.
class DecodeAttention {
 public:
  /// `workspace` is device memory of at least decode_workspace_bytes(capacity), aligned to 256
  /// bytes, that nothing else uses while this lives; its counters are cleared on `stream`. Throws
  /// Error (invalid_argument) for sizes, types or devices that are not served.
  DecodeAttention(const DecodeCapacity& capacity, DType type, void* workspace, std::size_t bytes,
                  cudaStream_t stream);

  /// One step. Results of a request depend on its inputs alone, bit for bit. Throws Error
  /// (invalid_argument) before anything is launched when the arguments do not fit the capacity or
  /// each other. What only the device sees is the caller's to keep: lengths of at least 1 (more
  /// keys than the capacity end the kernel with a trap), page numbers that exist.
  void run(const DecodeArguments& arguments, cudaStream_t stream) const;

 private:
  void check(const DecodeArguments& arguments) const;
  void check_estimates(const DecodeArguments& arguments) const;
  /// Blocks of exact attention that fit the device; of the others up to four times as many.
  DecodeBlocks ready_kernels(bool estimates, int processors) const;

  DecodeCapacity capacity_;
  DType type_;
  void* workspace_;
  DecodeBlocks blocks_;
  DecodeBlocks estimating_blocks_;
  bool overlaps_ = false;
  RecordQuantilesPlan records_;
};

}  // namespace sift::cuda
