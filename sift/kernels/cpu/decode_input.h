#pragma once

#include <cstdint>

#include "sift/core/aligned_buffer.h"
#include "sift/kernels/backend.h"
#include "sift/kernels/cpu/tile_format.h"

namespace sift::cpu {

/// Activations in the form that decode kernels read, in memory that every call reuses.
class DecodeInputBuffer {
 public:
  /// Converts x [rows, columns] for `compute`: f32 keeps the values, bf16 rounds them, q8 keeps
  /// them and quantises each block of 32 to 8 bits (scale = largest magnitude / 127; magnitudes
  /// below 2^-100 count as zero). Valid until the next call.
  const DecodeInput& prepare(const float* x, std::int64_t rows, std::int64_t columns,
                             Compute compute);

 private:
  void ensure(std::int64_t rows, std::int64_t blocks, Compute compute);

  AlignedBuffer<float> values_;
  AlignedBuffer<float> sums_;
  AlignedBuffer<std::uint16_t> pairs_;
  AlignedBuffer<std::int8_t> codes_;
  AlignedBuffer<float> scales_;
  AlignedBuffer<std::int32_t> code_sums_;
  AlignedBuffer<float> scaled_sums_;
  DecodeInput input_{};
};

/// Rounds x [rows, columns] to bfloat16: out [rows, columns rounded up to 32], padded with zeros.
void round_rows(const float* x, std::int64_t rows, std::int64_t columns, std::uint16_t* out,
                int threads);

}  // namespace sift::cpu
