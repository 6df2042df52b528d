#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <sstream>

#include "sift/core/error.h"

namespace sift::cuda {

/// Refuses what an operation cannot take, with one sentence that begins with its name.
class ArgumentChecks {
 public:
  constexpr explicit ArgumentChecks(const char* operation) : operation_(operation) {}

  /// Throws Error (invalid_argument).
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    std::ostringstream sentence;
    sentence << operation_ << ": ";
    (sentence << ... << parts);
    throw Error(ErrorKind::invalid_argument, sentence.str());
  }

  template <class V>
  void require(bool holds, const char* what, const V& value, const char* expected) const {
    if (!holds) refuse(what, " is ", value, ", expected ", expected);
  }

  void present(const void* pointer, const char* what) const {
    require(pointer != nullptr, what, "null", "device memory");
  }

  /// `pointer` is not null, and its address is a multiple of 16.
  void aligned(const void* pointer, const char* what) const {
    present(pointer, what);
    require(reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0, what, pointer,
            "an address that is a multiple of 16");
  }

  void workspace(std::size_t bytes, std::size_t least) const {
    if (bytes < least) refuse("the workspace has ", bytes, " bytes, expected at least ", least);
  }

  void cuda(cudaError_t status, const char* what) const {
    if (status != cudaSuccess) refuse(what, ": ", cudaGetErrorString(status));
  }

 private:
  const char* operation_;
};

}  // namespace sift::cuda
