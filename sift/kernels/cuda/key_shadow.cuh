#pragma once

// How neighbouring lanes of a warp make the shadow of one key: each codes 8 values, a unit. The
// arithmetic is that of sift/core/key_shadow.cc, operation by operation.

#include <cuda_fp8.h>

#include "sift/kernels/cuda/decode_tiles.cuh"
#include "sift/kernels/cuda/key_shadow.h"

namespace sift::cuda {

inline constexpr int kUnitCodes = 8;

/// The tile that has the shadow of a slot.
__device__ inline char* shadow_tile(const KeyShadowAddress& shadows, int head_dim,
                                    std::int64_t page, int kv_head, int slot) {
  return static_cast<char*>(shadows.tiles) + page * shadows.page_stride +
         kv_head * shadows.head_stride +
         std::int64_t{slot / kShadowTileKeys} * shadow_tile_bytes(shadows.format, head_dim);
}

/// The lanes of a warp that share a key: a power of two, one for each unit, and for a head
/// dimension of 96 four without any.
struct KeyLanes {
  int count;
  int unit;  ///< of this lane
  unsigned mask;

  __device__ KeyLanes(int lanes, int thread) : count(lanes), unit(thread % lanes) {
    const int first = thread % kWarpThreads - unit;
    mask = kAllLanes >> (kWarpThreads - lanes) << first;
  }
};

/// Extremes of some values. The greatest is +∞ if any of them is not finite.
struct ValueRange {
  float least;
  float greatest;
};

/// The range of the values of `count` neighbouring lanes, a power of two.
__device__ inline ValueRange range_over(const float (&values)[kUnitCodes], int count,
                                        unsigned mask) {
  ValueRange range{values[0], values[0]};
  bool finite = true;
#pragma unroll
  for (const float value : values) {
    range.least = fminf(range.least, value);
    range.greatest = fmaxf(range.greatest, value);
    finite = finite && isfinite(value);
  }
  if (!finite) range.greatest = INFINITY;
  for (int step = 1; step < count; step *= 2) {
    range.least = fminf(range.least, __shfl_xor_sync(mask, range.least, step));
    range.greatest = fmaxf(range.greatest, __shfl_xor_sync(mask, range.greatest, step));
  }
  return range;
}

// ---- Four bits ----

/// What the values of a block share.
struct alignas(4) BlockScale {
  __half scale;
  __half zero;
};

__device__ inline __half saturated_half(float value) {
  constexpr float kLargestHalf = 65504;
  return __float2half_rn(fminf(fmaxf(value, -kLargestHalf), kLargestHalf));
}

__device__ inline BlockScale block_scale(const ValueRange& range) {
  constexpr std::uint16_t kHalfNaN = 0x7e00;
  if (range.greatest == INFINITY) return {__ushort_as_half(0), __ushort_as_half(kHalfNaN)};
  const __half zero = saturated_half(__fadd_rn(range.least, 0.0F));
  const float span = __fsub_rn(__fadd_rn(range.greatest, 0.0F), __half2float(zero));
  return {saturated_half(__fdiv_rn(span, 15.0F)), zero};
}

__device__ inline std::uint32_t four_bit_codes(const float (&values)[kUnitCodes],
                                               const BlockScale& block) {
  const float scale = __half2float(block.scale);
  if (scale == 0) return 0;
  const float zero = __half2float(block.zero);
  std::uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < kUnitCodes; ++i) {
    const float steps = __fdiv_rn(__fsub_rn(values[i], zero), scale);
    codes |= __float2uint_rn(fminf(fmaxf(steps, 0.0F), 15.0F)) << (4 * i);
  }
  return codes;
}

// ---- Floating-point numbers of 8 bits ----

__device__ inline float row_scale(const ValueRange& range) {
  constexpr int kFloatNaN = 0x7fc00000;
  const float greatest = fmaxf(fabsf(range.least), fabsf(range.greatest));
  return greatest == INFINITY ? __int_as_float(kFloatNaN) : __fdiv_rn(greatest, 448.0F);
}

__device__ inline std::uint64_t e4m3_codes(const float (&values)[kUnitCodes], float scale) {
  if (!(scale > 0)) return 0;
  std::uint64_t codes = 0;
#pragma unroll
  for (int i = 0; i < kUnitCodes; ++i) {
    const std::uint64_t code =
        __nv_cvt_float_to_fp8(__fdiv_rn(values[i], scale), __NV_SATFINITE, __NV_E4M3);
    codes |= code << (8 * i);
  }
  return codes;
}

/// Writes one key's shadow into its place of a tile, every lane its unit. All lanes of the key take
/// part; those without a unit have zeros for values.
__device__ inline void write_shadow(const KeyShadowFormat& format, int head_dim,
                                    const float (&values)[kUnitCodes], const KeyLanes& lanes,
                                    char* tile, int key) {
  const bool has_unit = lanes.unit * kUnitCodes < head_dim;
  char* codes = tile + shadow_unit_offset(format, head_dim, key, lanes.unit);
  char* scales = tile + shadow_scales_offset(format, head_dim, key);
  if (format.code == ShadowCode::fp8) {
    const float scale = row_scale(range_over(values, lanes.count, lanes.mask));
    if (has_unit) *reinterpret_cast<std::uint64_t*>(codes) = e4m3_codes(values, scale);
    if (lanes.unit == 0) *reinterpret_cast<float*>(scales) = scale;
    return;
  }
  const int block_lanes = static_cast<int>(format.block) / kUnitCodes;
  const BlockScale block = block_scale(range_over(values, block_lanes, lanes.mask));
  if (!has_unit) return;
  *reinterpret_cast<std::uint32_t*>(codes) = four_bit_codes(values, block);
  if (lanes.unit % block_lanes == 0) {
    reinterpret_cast<BlockScale*>(scales)[lanes.unit / block_lanes] = block;
  }
}

}  // namespace sift::cuda
