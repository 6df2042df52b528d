#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "sift/core/dtype.h"
#include "sift/kernels/cuda/decode_attention.h"

namespace sift::cuda {

/// Sizes that a workspace has to serve.
struct PrefillQuantilesCapacity {
  int heads = 0;  ///< query heads, at most 16 per KV head
  int kv_heads = 0;
  int head_dim = 0;          ///< 64, 96, 128 or 256
  std::int64_t longest = 0;  ///< tokens of a prompt, 1 to 262,144
  /// Visible keys of the rows that run together, at least `longest`; 0: four times that. More mean
  /// fewer launches and a larger workspace, and the same results.
  std::int64_t keys = 0;
};

/// Bytes of workspace for PrefillQuantiles. Throws Error (invalid_argument) for sizes that it does
/// not serve.
std::size_t prefill_quantiles_workspace_bytes(const PrefillQuantilesCapacity& capacity);

/// A chunk of one prompt in one layer. Pointers are to device memory.
struct PrefillQuantilesArguments {
  const void* query = nullptr;  ///< [tokens, heads, head_dim] of the chunk, 16-byte aligned
  std::int64_t first = 0;       ///< tokens of the prompt before the chunk
  std::int64_t tokens = 0;      ///< of the chunk, at least 1
  std::int64_t prompt = 0;      ///< tokens of the whole prompt
  std::int64_t warmup = 0;      ///< w of the policy, at least 2
  float scale = 0;              ///< of scores, usually 1 / √head_dim

  /// The prompt's place in the batch that `cache` and `method` describe.
  int request = 0;
  CacheAddress cache;  ///< with the chunk's keys and values
  MethodStep method;   ///< options, states, slots and τ are used; counts and modes are not
};

/// Records of `calibrate=prefill`: the τ-quantiles of prompt rows at fixed positions
/// (sift/attention/calibration.h) go to the fits of the prompt's states, chunk by chunk, in the
/// order of rows. How the prompt is cut changes no bit of the states. Rows attend by the kernels of
/// decode attention, in recording mode; their outputs are dropped.
class PrefillQuantiles {
 public:
  /// `workspace` is device memory of at least prefill_quantiles_workspace_bytes(capacity), aligned
  /// to 256 bytes, that nothing else uses while this lives. Throws Error (invalid_argument) for
  /// sizes, types or devices that are not served.
  PrefillQuantiles(const PrefillQuantilesCapacity& capacity, DType type, void* workspace,
                   std::size_t bytes, cudaStream_t stream);

  /// Takes the records of a chunk; returns how many rows of it record. A prompt of fewer than 64
  /// tokens has none: it calibrates on generated rows, so its `decode_records` must be the warm-up,
  /// and 0 otherwise. Only launches, so it may be captured in a CUDA graph of this very chunk.
  /// Throws Error (invalid_argument) before any state is written when the arguments do not fit the
  /// capacity or each other. Lengths of tables and numbers of pages are the caller's to keep.
  int run(const PrefillQuantilesArguments& arguments, cudaStream_t stream) const;

 private:
  void check(const PrefillQuantilesArguments& arguments) const;
  void run_rows(const PrefillQuantilesArguments& arguments, std::span<const std::int64_t> rows,
                cudaStream_t stream) const;

  PrefillQuantilesCapacity capacity_;
  void* workspace_;
  DecodeAttention attention_;
};

}  // namespace sift::cuda
