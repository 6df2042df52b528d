#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sift::cpu {

/// Memory for packed weights, out of large chunks that ask the system for huge pages: weights are
/// read whole for every token, and with small pages a tenth of that time goes to address
/// translation. A chunk lives as long as what was allocated from it.
class WeightPool {
 public:
  /// `bytes` bytes, aligned to 64, not initialised. Throws std::bad_alloc.
  std::shared_ptr<std::uint8_t> allocate(std::size_t bytes);

 private:
  std::shared_ptr<std::uint8_t> chunk_;
  std::size_t used_ = 0;
  std::size_t size_ = 0;
};

}  // namespace sift::cpu
