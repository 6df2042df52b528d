#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/core/dtype.h"

namespace sift {

/// A matrix [rows, columns] that somebody else owns; rows are contiguous and follow each other.
/// A vector is one row.
struct MatrixView {
  DType type = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::byte* data = nullptr;

  std::size_t bytes() const { return static_cast<std::size_t>(rows) * row_bytes(type, columns); }
  const std::byte* row(std::int64_t index) const {
    return data + static_cast<std::size_t>(index) * row_bytes(type, columns);
  }
};

}  // namespace sift
