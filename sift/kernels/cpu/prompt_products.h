#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "sift/core/aligned_buffer.h"
#include "sift/kernels/cpu/instruction_set.h"
#include "sift/kernels/cpu/packed_matrix.h"

namespace sift::cpu {

/// Matrix-matrix products by oneDNN. A matrix is expanded panel by panel (some of its rows, all
/// columns) into scratch memory in the layout that oneDNN multiplies fastest.
class PromptProducts {
 public:
  PromptProducts(int threads, InstructionSet instruction_set);
  ~PromptProducts();

  /// Takes the activations of the next calls of multiply: x [n, columns], kept by the caller.
  void set_input(const float* x, std::int64_t n, std::int64_t columns, Compute compute);

  /// out [n, outputs] = x · weightᵀ, or += with `add`.
  void multiply(const PackedMatrix& weight, bool add, float* out);

 private:
  struct Shape;
  struct Primitives;

  void expand(const PackedMatrix& weight, std::int64_t first_tile, std::int64_t tiles);
  /// out [rows, 16 · tiles or what is left of the outputs].
  void multiply_panel(const PackedMatrix& weight, std::int64_t first_tile, std::int64_t tiles,
                      bool add, float* out);
  /// Moves the panel's output [rows, width] to its columns of out [rows, stride].
  void store_panel(std::int64_t width, std::int64_t stride, bool add, float* out);

  int threads_;
  InstructionSet instruction_set_;
  bool strips_;           ///< panels are strips of 64 rows, else plain
  bool pairs_ = false;    ///< operands are bfloat16, else float
  bool rounded_ = false;  ///< floats hold values rounded to bfloat16
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;  ///< padded to 32
  void* input_ = nullptr;     ///< [rows, columns]
  AlignedBuffer<float> padded_input_;
  AlignedBuffer<std::uint16_t> rounded_input_;
  AlignedBuffer<std::byte> panel_;
  AlignedBuffer<float> panel_output_;  ///< of matrices that do not fit in one panel
  std::unique_ptr<Primitives> primitives_;
};

}  // namespace sift::cpu
