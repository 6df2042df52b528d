#pragma once

#include "sift/kernels/cuda/argument_checks.h"
#include "sift/kernels/cuda/cache_address.h"

namespace sift::cuda {

/// Refuses shadows that no kernel here reads or writes.
inline void check_shadows(const ArgumentChecks& checks, const KeyShadowAddress& shadows,
                          int head_dim) {
  const KeyShadowFormat& format = shadows.format;
  if (format.code == ShadowCode::bits4) {
    checks.require(format.block == 32 || format.block == 64, "the block", format.block, "32 or 64");
    checks.require(head_dim % format.block == 0, "the head dimension", head_dim,
                   "a multiple of the block");
  } else if (format.code != ShadowCode::fp8) {
    checks.refuse("a code has ", code_bits(format.code), " bits, expected 4, or fp8");
  }
  checks.present(shadows.tiles, "the memory of shadows");
  checks.aligned(shadows.tiles, "the address of the shadows");
  for (const std::int64_t stride : {shadows.page_stride, shadows.head_stride}) {
    checks.require(stride % 16 == 0, "a stride of the shadows", stride, "a multiple of 16");
  }
}

}  // namespace sift::cuda
