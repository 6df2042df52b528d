#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "sift/kernels/cuda/method_state.h"

namespace siftattention {

/// The method's states and what a step of it needs, as tensors.
struct MethodTensors {
  const std::optional<at::Tensor>& head_states;   ///< [slots, heads, bytes] uint8
  const std::optional<at::Tensor>& group_states;  ///< [slots, kv_heads, bytes] uint8
  const at::Tensor& lengths;                      ///< [batch] int32
  const std::optional<at::Tensor>& generated;     ///< [batch] int32
  const std::optional<at::Tensor>& slots;         ///< [batch] int32
  const std::optional<at::Tensor>& taus;          ///< [batch] float64
  const std::optional<at::Tensor>& warmups;       ///< [batch] int32
  const std::optional<at::Tensor>& modes;         ///< [batch] uint8
  const std::optional<at::Tensor>& ln_thetas;     ///< [batch, heads] float64
};

/// The options of all requests. Raises ValueError for what is out of range.
sift::MethodOptions method_options(double tau, std::string_view fit, double adapt,
                                   std::string_view adapt_target, std::int64_t warmup,
                                   std::int64_t dense_rows);

/// One step of the method for this many heads; without states it has none either, and the other
/// tensors but `modes` have to be absent too. Raises ValueError or TypeError.
sift::cuda::MethodStep method_step(const MethodTensors& tensors, std::int64_t heads,
                                   std::int64_t kv_heads, const sift::MethodOptions& options);

}  // namespace siftattention
