#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "sift/core/dtype.h"
#include "sift/kernels/cuda/decode_arguments.h"

namespace sift::cuda {

/// What a plan is made for.
struct PrefillAttentionShape {
  int batch = 1;  ///< prompts of one call
  int heads = 0;  ///< query heads, a multiple of kv_heads
  int kv_heads = 0;
  int head_dim = 0;         ///< 64, 96, 128 or 256
  std::int64_t tokens = 0;  ///< of a chunk, at most
  /// Visible keys of a prompt, at most. A contiguous cache has memory for so many.
  std::int64_t keys = 0;
  float scale = 0;  ///< of scores, usually 1 / √head_dim
  /// Strides, size of pages and stride of the table; its pointers are not used. A cache whose
  /// page_shift is below 31 has a table, [batch, table_stride].
  CacheAddress cache;
  std::int64_t pages = 0;  ///< of a cache with a table
};

/// A chunk of each prompt. Pointers are to device memory, those to rows 16-byte aligned.
struct PrefillAttentionArguments {
  const void* query = nullptr;  ///< [batch, shape.tokens, heads, head_dim]
  void* output = nullptr;       ///< as `query`; what is behind a chunk's last row is undefined
  /// Laid out as the shape's, with the chunk's keys and values in it. Rows of a prompt's pages
  /// behind its length have to be finite numbers, since cuDNN multiplies values of them by zero:
  /// memory that nobody has written is to be cleared first.
  CacheAddress cache;
  const std::int32_t* tokens = nullptr;  ///< [batch] of the chunk, 1 to shape.tokens
  const std::int32_t* lengths = nullptr;  ///< [batch] keys that the chunk's last row sees, ≥ tokens
};

/// Exact causal attention of chunks of prompts by cuDNN (scaled dot product attention of its graph
/// interface): row t of a chunk of n rows sees the first length − n + t + 1 keys. Lengths and
/// tokens are arrays of the device, so one plan serves all chunks of a size.
class PrefillAttention {
 public:
  /// Compiles a plan for the current device, which takes up to seconds. Throws Error
  /// (invalid_argument) for shapes and types that are not served; the sentence holds cuDNN's reason
  /// where it refused. Tables that list pages one request after another (table_begin) are not.
  PrefillAttention(const PrefillAttentionShape& shape, DType type);
  ~PrefillAttention();
  PrefillAttention(PrefillAttention&&) noexcept;
  PrefillAttention& operator=(PrefillAttention&&) noexcept;

  /// Bytes of workspace that run() needs.
  std::size_t workspace_bytes() const;

  /// One layer. `workspace` is device memory of at least workspace_bytes(), aligned to 256 bytes,
  /// that nothing else uses until the stream is past it. Not from two threads at once. Throws Error
  /// (invalid_argument) before anything is launched when the arguments do not fit the shape.
  void run(const PrefillAttentionArguments& arguments, void* workspace, std::size_t bytes,
           cudaStream_t stream) const;

 private:
  struct Plan;
  std::unique_ptr<Plan> plan_;
};

}  // namespace sift::cuda
