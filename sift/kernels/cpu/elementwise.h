#pragma once

#include <cstdint>
#include <span>

#include "sift/core/aligned_buffer.h"
#include "sift/kernels/backend.h"

namespace sift::cpu {

/// y [size] = x / sqrt(mean(x²) + epsilon) · weight.
void rms_norm(const float* x, const float* weight, float epsilon, std::int64_t size, float* y);

/// gate [size] = silu(gate) · up.
void silu_multiply(float* gate, const float* up, std::int64_t size);

/// Cosines and sines of one forward pass, so that layers need not compute them again.
class RotationTable {
 public:
  /// Fills the tables for the rows' positions, which are those of a batch in order.
  void prepare(const Rope& rope, std::span<const std::int64_t> positions);

  /// Rotates `heads` heads [heads, head_dim] of batch row `row` in place. Dimensions behind the
  /// rotary ones stay as they are.
  void rotate(std::int64_t row, int heads, int head_dim, float* data) const;

 private:
  RopeStyle style_ = RopeStyle::adjacent_pairs;
  std::int64_t dimensions_ = 0;   ///< rotary dimensions
  AlignedBuffer<float> cosines_;  ///< [rows, dimensions]
  AlignedBuffer<float> sines_;    ///< [rows, dimensions], negative for a pair's first member
};

}  // namespace sift::cpu
