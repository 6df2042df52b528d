#include "sift/engine/memory_estimate.h"

#include <algorithm>

#include "sift/engine/engine.h"
#include "sift/kernels/cpu/attend_decode_workspace.h"
#include "sift/kernels/cpu/attend_rows.h"
#include "sift/model/model.h"

namespace sift {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kPanelBytes = std::int64_t{4} << 20;

/// Activations of one row in the widest part of the forward pass, in floats.
std::int64_t floats_per_row(const ModelShape& shape) {
  const std::int64_t query = std::int64_t{shape.heads} * shape.head_dim;
  const std::int64_t key = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t residual_and_norm = 2 * std::int64_t{shape.embedding};
  const std::int64_t query_and_attended = 2 * query;
  const std::int64_t key_and_value = 2 * key;
  const std::int64_t gate_and_up = 2 * std::int64_t{shape.feed_forward};
  const std::int64_t operand =
      std::max({std::int64_t{shape.embedding}, query, std::int64_t{shape.feed_forward}});
  return residual_and_norm + query_and_attended + key_and_value + gate_and_up + operand;
}

std::int64_t packed_weight_bytes(const Model& model) {
  std::int64_t bytes = 0;
  for (const GgufTensor& tensor : model.metadata().tensors()) {
    const std::int64_t rows = tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
    const std::int64_t padded =
        tensor.dimensions < 2 ? rows : (rows + kTileRows - 1) / kTileRows * kTileRows;
    bytes += padded * static_cast<std::int64_t>(row_bytes(tensor.type, tensor.shape[0]));
  }
  return bytes;
}

std::int64_t activation_bytes(const Model& model) {
  const ModelShape& shape = model.shape();
  const std::int64_t rows = std::min<std::int64_t>(kPromptChunk, model.config().context_length);
  return rows * floats_per_row(shape) * std::int64_t{sizeof(float)} +
         std::int64_t{shape.vocabulary} * std::int64_t{sizeof(float)} + kPanelBytes;
}

std::int64_t attention_bytes(const Model& model, const Policy& policy, int threads) {
  const AttentionShape shape = model.shape().attention();
  const std::int64_t context = model.config().context_length;
  const std::int64_t rows = std::min<std::int64_t>(kPromptChunk, context);
  const RowMode mode = is_dense(policy) ? RowMode::dense : RowMode::record;
  return static_cast<std::int64_t>(
      cpu::rows_workspace_bytes(shape, policy, rows, context, threads) +
      cpu::decode_workspace_bytes(shape, context, mode, threads));
}

}  // namespace

MemoryEstimate estimate_memory(const Model& model, const Policy& policy, int threads) {
  return {packed_weight_bytes(model), activation_bytes(model),
          attention_bytes(model, policy, threads),
          static_cast<std::int64_t>(attention_state_bytes(model.shape().attention()))};
}

std::int64_t cache_bytes(const Model& model, DType type, std::int64_t tokens) {
  const ModelShape& shape = model.shape();
  const auto row = static_cast<std::int64_t>(row_bytes(type, shape.head_dim));
  return 2 * tokens * shape.layers * shape.kv_heads * row;
}

}  // namespace sift
