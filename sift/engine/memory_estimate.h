#pragma once

#include <cstdint>

#include "sift/core/dtype.h"

namespace sift {

class Model;

/// What running a model takes, told from its header alone.
struct MemoryEstimate {
  std::int64_t weight_bytes =
      0;  ///< matrices packed for the CPU backend, in whole tiles of 16 rows
  /// Activations of one prompt chunk, and the panel of expanded weights that its products reuse.
  std::int64_t scratch_bytes = 0;
};

MemoryEstimate estimate_memory(const Model& model);

/// Bytes of K and V of all layers that `tokens` cached tokens take.
std::int64_t cache_bytes(const Model& model, DType type, std::int64_t tokens);

}  // namespace sift
