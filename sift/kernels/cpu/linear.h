#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "sift/core/tensor.h"
#include "sift/kernels/backend.h"
#include "sift/kernels/cpu/workspace.h"
#include "sift/kernels/weights.h"

namespace sift::cpu {

// Matrix products of the CPU backend: out = x · weightᵀ, with weights that stay in their quantised
// form (tile_format.h).
//
// What a compute mode means, whatever the instruction set:
//   f32   exact values of the weights, float activations, sums in float
//   bf16  values of weights and activations rounded to bfloat16, sums in float
//   q8    activations quantised to 8 bits per block of 32, products in integers; plain weights
//         (f32, f16, bf16) meet float activations as in f32; prompts run as bf16 where the
//         processor has AVX-512 BF16, else as f32

/// Copies a matrix into the form that this backend multiplies with; `source` is not read later.
/// Throws Error (bad_file) when the columns are no whole number of blocks.
std::shared_ptr<PackedWeight> pack(const MatrixView& source, Compute compute, Workspace& workspace);

/// One matrix and where its product goes: out [rows of x, outputs], contiguous.
struct Product {
  const PackedWeight* weight;
  float* out;
};

/// out = x · weightᵀ for each product, straight from the packed blocks; with `add`, out += instead.
/// x [n, inputs]. REQUIRES: all weights have the same number of inputs and compute mode.
///
/// Each row is summed in the same order whatever n and the number of threads are, so results are
/// bitwise equal.
void multiply_decode(std::span<const Product> products, const float* x, std::int64_t n, bool add,
                     Workspace& workspace);

/// The same for many rows: matrix-matrix products over one de-quantised panel at a time. With
/// InstructionSet::avx512 a row's result does not depend on the rows beside it.
void multiply_prompt(std::span<const Product> products, const float* x, std::int64_t n, bool add,
                     Workspace& workspace);

/// Row `row` of a packed matrix as floats: out [inputs].
void read_row(const PackedWeight& weight, std::int64_t row, float* out);

/// What runs under a compute mode: "f32", "bf16", "q8 (prompt bf16)".
std::string describe(Compute compute, InstructionSet instruction_set);

}  // namespace sift::cpu
