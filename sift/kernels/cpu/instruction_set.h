#pragma once

#include <cstdint>

#include "sift/kernels/cpu/tile_format.h"

namespace sift::cpu {

/// Which kernels run. Both give the same results within the compute mode's rounding.
enum class InstructionSet : std::uint8_t {
  portable,  ///< Highway, for the best of its targets that this processor has
  avx512,    ///< AVX-512 with VNNI, BF16 and VBMI
};

/// The best that this processor has.
InstructionSet best_instruction_set();

TileKernels tile_kernels(DType type, InstructionSet instruction_set);

}  // namespace sift::cpu
