#pragma once

#include <cstddef>
#include <cstdint>

namespace sift::cuda {

/// Cuts memory into arrays that are aligned to 256 bytes, or only adds up their bytes where the
/// memory is null.
class WorkspaceCutter {
 public:
  explicit WorkspaceCutter(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <class V>
  V* take(std::int64_t count) {
    V* place = memory_ == nullptr ? nullptr : reinterpret_cast<V*>(memory_ + bytes_);
    constexpr std::size_t kAlignment = 256;
    bytes_ +=
        (static_cast<std::size_t>(count) * sizeof(V) + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }

  std::size_t bytes() const { return bytes_; }

 private:
  char* memory_;
  std::size_t bytes_ = 0;
};

}  // namespace sift::cuda
