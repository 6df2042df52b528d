#pragma once

// Checks of the tensors that operators get. What does not fit raises ValueError or TypeError with
// one sentence that names the argument.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <optional>

#include "sift/core/dtype.h"
#include "sift/core/error.h"

namespace siftattention {

using at::Tensor;

/// `call()`, whose sift::Error becomes Python's ValueError.
template <class Call>
auto with_value_errors(Call&& call) {
  try {
    return call();
  } catch (const sift::Error& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

/// That `tensor` lies on `device`, which is that of `where`.
inline void check_device(const Tensor& tensor, const char* name, at::Device device,
                         const char* where = "the query is") {
  TORCH_CHECK_VALUE(tensor.device() == device, name, " is on ", tensor.device(), ", expected ",
                    device, ", where ", where);
}

inline void check_type(const Tensor& tensor, const char* name, at::ScalarType type) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == type, name, " has type ", tensor.scalar_type(),
                   ", expected ", type);
}

/// That the data of `tensor` begins at a multiple of `bytes`.
inline void check_alignment(const Tensor& tensor, const char* name, std::uintptr_t bytes) {
  TORCH_CHECK_VALUE(reinterpret_cast<std::uintptr_t>(tensor.data_ptr()) % bytes == 0, name,
                    " does not begin at a multiple of ", bytes, " bytes");
}

/// That `tensor` has this type and shape, lies on `device` and is contiguous.
inline void check_array(const Tensor& tensor, const char* name, at::Device device,
                        at::ScalarType type, at::IntArrayRef shape,
                        const char* where = "the query is") {
  check_device(tensor, name, device, where);
  check_type(tensor, name, type);
  TORCH_CHECK_VALUE(tensor.sizes() == shape, name, " has shape ", tensor.sizes(), ", expected ",
                    shape);
  TORCH_CHECK_VALUE(tensor.is_contiguous(), name, " is not contiguous");
}

/// The data of an optional array, or null.
template <class V>
V* optional_array(const std::optional<Tensor>& tensor, const char* name, at::Device device,
                  at::ScalarType type, at::IntArrayRef shape) {
  if (!tensor.has_value()) return nullptr;
  check_array(*tensor, name, device, type, shape);
  return static_cast<V*>(tensor->data_ptr());
}

/// The type of caches and queries.
inline sift::DType half_type(const Tensor& tensor, const char* name) {
  if (tensor.scalar_type() == at::kHalf) return sift::DType::f16;
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kBFloat16, name, " has type ", tensor.scalar_type(),
                   ", expected float16 or bfloat16");
  return sift::DType::bf16;
}

inline int whole(std::int64_t value, const char* name) {
  TORCH_CHECK_VALUE(value >= 0 && value <= std::numeric_limits<int>::max(), name, " is ", value,
                    ", expected 0 to ", std::numeric_limits<int>::max());
  return static_cast<int>(value);
}

}  // namespace siftattention
