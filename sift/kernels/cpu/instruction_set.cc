#include "sift/kernels/cpu/instruction_set.h"

namespace sift::cpu {

#if defined(__x86_64__)

InstructionSet best_instruction_set() {
  static const bool kHasAvx512 =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
      __builtin_cpu_supports("avx512vbmi");
  return kHasAvx512 ? InstructionSet::avx512 : InstructionSet::portable;
}

TileKernels tile_kernels(DType type, InstructionSet instruction_set) {
  return instruction_set == InstructionSet::avx512 ? avx512_kernels(type) : portable_kernels(type);
}

#else

InstructionSet best_instruction_set() { return InstructionSet::portable; }

TileKernels tile_kernels(DType type, InstructionSet) { return portable_kernels(type); }

#endif

}  // namespace sift::cpu
