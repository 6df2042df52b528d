#pragma once

#include <cstdint>

#include "sift/core/dtype.h"

namespace sift {

class Model;
struct Policy;

/// What running a model on the CPU backend takes besides its cache, told from its header alone.
struct MemoryEstimate {
  std::int64_t weight_bytes = 0;  ///< matrices packed in whole tiles of 16 rows
  /// Activations of one prompt chunk, and the panel of expanded weights that its products reuse.
  std::int64_t scratch_bytes = 0;
  /// What attention works in, over a whole context, in prompts and while generating.
  std::int64_t attention_scratch_bytes = 0;
  std::int64_t attention_state_bytes = 0;  ///< what a policy carries for one request
};

/// For one request under `policy` that fills the model's context, on `threads` threads.
MemoryEstimate estimate_memory(const Model& model, const Policy& policy, int threads);

/// Bytes of K and V of all layers that `tokens` cached tokens take.
std::int64_t cache_bytes(const Model& model, DType type, std::int64_t tokens);

}  // namespace sift
