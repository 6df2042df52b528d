#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "sift/core/tensor.h"
#include "sift/kernels/backend.h"
#include "sift/kernels/cpu/tile_format.h"
#include "sift/kernels/cpu/weight_pool.h"
#include "sift/kernels/weights.h"

namespace sift::cpu {

/// A weight matrix in tiles of 16 rows (tile_format.h), as large as its source but for padding and
/// at most 3 % for types whose scales are expanded.
class PackedMatrix final : public PackedWeight {
 public:
  /// Copies `source` into memory of `pool` with up to `threads` threads. Throws Error (bad_file)
  /// when the columns are no whole number of blocks.
  PackedMatrix(const MatrixView& source, Compute compute, int threads, WeightPool& pool);

  std::size_t bytes() const override {
    return static_cast<std::size_t>(tiles() * view_.tile_bytes);
  }
  Compute compute() const { return compute_; }
  std::int64_t inputs() const { return inputs_; }
  std::int64_t outputs() const { return view_.outputs; }
  std::int64_t tiles() const { return (view_.outputs + kTileRows - 1) / kTileRows; }
  const TileView& view() const { return view_; }

  /// The values of one row, as sift::dequantise gives them. out [inputs].
  void read_row(std::int64_t row, float* out) const;

 private:
  Compute compute_;
  std::int64_t inputs_;
  TileView view_{};
  std::shared_ptr<std::uint8_t> storage_;
};

}  // namespace sift::cpu
