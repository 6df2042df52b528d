#include "sift/kernels/cpu/linear.h"

#include <omp.h>

#include <algorithm>

#include "sift/kernels/cpu/packed_matrix.h"
#include "sift/kernels/cpu/prompt_products.h"

namespace sift::cpu {
namespace {

const PackedMatrix& matrix_of(const PackedWeight& weight) {
  return static_cast<const PackedMatrix&>(weight);  // nothing else is made by pack()
}

MultiplyTiles kernel_of(const PackedMatrix& matrix, InstructionSet instruction_set) {
  const TileKernels kernels = tile_kernels(matrix.view().type, instruction_set);
  switch (matrix.compute()) {
    case Compute::f32:
      return kernels.multiply_f32;
    case Compute::bf16:
      return kernels.multiply_bf16;
    case Compute::q8:
      return kernels.multiply_q8;
  }
  return nullptr;
}

/// Runs the part of the products that thread `thread` of `threads` has: a contiguous run of whole
/// tiles, equal in bytes.
void multiply_share(std::span<const Product> products, const DecodeInput& input, bool add,
                    InstructionSet instruction_set, std::int64_t thread, std::int64_t threads) {
  std::int64_t total = 0;
  for (const Product& product : products) {
    total += static_cast<std::int64_t>(product.weight->bytes());
  }
  const std::int64_t low = total / threads * thread + total % threads * thread / threads;
  const std::int64_t high =
      total / threads * (thread + 1) + total % threads * (thread + 1) / threads;
  std::int64_t base = 0;
  for (const Product& product : products) {
    const PackedMatrix& matrix = matrix_of(*product.weight);
    const std::int64_t tile_bytes = matrix.view().tile_bytes;
    const auto first_from = [&](std::int64_t offset) {  // the first tile that begins at or behind
      const std::int64_t tile = (offset - base + tile_bytes - 1) / tile_bytes;
      return offset <= base ? 0 : std::min(tile, matrix.tiles());
    };
    const std::int64_t begin = first_from(low);
    const std::int64_t end = first_from(high);
    if (begin < end) {
      kernel_of(matrix, instruction_set)(matrix.view(), begin, end, input, add, product.out);
    }
    base += static_cast<std::int64_t>(matrix.bytes());
  }
}

}  // namespace

Workspace::Workspace(int threads, InstructionSet instruction_set)
    : threads_(std::max(threads, 1)),
      instruction_set_(instruction_set),
      prompt_products_(std::make_unique<PromptProducts>(threads_, instruction_set)) {}

Workspace::~Workspace() = default;

std::shared_ptr<PackedWeight> pack(const MatrixView& source, Compute compute,
                                   Workspace& workspace) {
  return std::make_shared<PackedMatrix>(source, compute, workspace.threads(),
                                        workspace.weight_pool());
}

void multiply_decode(std::span<const Product> products, const float* x, std::int64_t n, bool add,
                     Workspace& workspace) {
  if (products.empty() || n < 1) return;
  const PackedMatrix& first = matrix_of(*products[0].weight);
  const DecodeInput& input =
      workspace.decode_input().prepare(x, n, first.inputs(), first.compute());
#pragma omp parallel num_threads(workspace.threads())
  multiply_share(products, input, add, workspace.instruction_set(), omp_get_thread_num(),
                 omp_get_num_threads());
}

void multiply_prompt(std::span<const Product> products, const float* x, std::int64_t n, bool add,
                     Workspace& workspace) {
  if (products.empty() || n < 1) return;
  const PackedMatrix& first = matrix_of(*products[0].weight);
  PromptProducts& prompt = workspace.prompt_products();
  prompt.set_input(x, n, first.inputs(), first.compute());
  for (const Product& product : products) {
    prompt.multiply(matrix_of(*product.weight), add, product.out);
  }
}

void read_row(const PackedWeight& weight, std::int64_t row, float* out) {
  matrix_of(weight).read_row(row, out);
}

std::string describe(Compute compute, InstructionSet instruction_set) {
  switch (compute) {
    case Compute::f32:
      return "f32";
    case Compute::bf16:
      return "bf16";
    case Compute::q8:
      return instruction_set == InstructionSet::avx512 ? "q8 (prompt bf16)" : "q8 (prompt f32)";
  }
  return {};
}

}  // namespace sift::cpu
