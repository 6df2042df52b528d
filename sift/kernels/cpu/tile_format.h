#pragma once

#include <cstdint>

#include "sift/core/dtype.h"

namespace sift::cpu {

// Packed matrices hold 16 output rows side by side, so that one vector lane is one row and sums
// over columns need no horizontal additions. This file is the layout, shared by packing and by
// kernels of every instruction set. It holds data only: translation units compiled for special
// instruction sets include it.
//
// Quantised types. A tile (16 rows, all columns) is a sequence of groups of `blocks` · 32 columns:
//   header   16 halves d, then, with `has_min`, 16 halves m
//   blocks times, for 32 columns each:
//     scales · 16 bytes   integer scales, each for 32 / scales columns (K types)
//     16 bytes            integer mins, when there are scales and `has_min`
//     (bits − 4) · 64 bytes high bits, when bits is 5 or 6
//     256 or 512 bytes    low 4 bits, or whole bytes when bits is 8
// value = d · scale · (code − offset) + m · min.
//
// In the low part, column 4k + j of row r stands at byte 64 k + 4 r + j; with 4 bits columns 0..15
// are the low nibbles and columns 16..31 the high ones. In the high part, byte 4 r + j holds the
// fifth bits of columns 4k + j as bits k = 0..7; or, with 6 bits, one such run of 64 bytes for each
// half of 16 columns holds their two high bits as bits 2k and 2k + 1 of k = 0..3.
//
// Plain types. f32 and f16: column c of row r is element 16 c + r; bf16: pairs of columns, element
// 32 (c / 2) + 2 r + c % 2. Columns are padded with zeros to a multiple of 32.

inline constexpr int kTileRows = 16;
inline constexpr int kBlockColumns = 32;

struct TileFormat {
  int bits;          ///< of a code: 4, 5, 6, 8
  int offset;        ///< what is taken from a code
  bool has_min;      ///< whether m · min is added
  int blocks;        ///< blocks of 32 columns under one header: 1, or 8 for K types
  int scales;        ///< integer scales per block: 0 (none), 1, 2
  int header_bytes;  ///< before the first block
  int low_offset;    ///< from the start of a block to its low part
  int high_offset;   ///< from the start of a block to its high part
  int block_bytes;   ///< of one block without header
  int group_bytes;   ///< header and blocks
};

consteval TileFormat make_tile_format(int bits, int offset, bool has_min, int blocks, int scales) {
  const int header = has_min ? 64 : 32;
  const int high = 16 * scales + (scales > 0 && has_min ? 16 : 0);
  const int low = high + (bits == 8 ? 0 : 64 * (bits - 4));
  const int block = low + (bits == 8 ? 512 : 256);
  return {bits, offset, has_min, blocks, scales, header, low, high, block, header + blocks * block};
}

inline constexpr TileFormat kQ4_0 = make_tile_format(4, 8, false, 1, 0);
inline constexpr TileFormat kQ4_1 = make_tile_format(4, 0, true, 1, 0);
inline constexpr TileFormat kQ5_0 = make_tile_format(5, 16, false, 1, 0);
inline constexpr TileFormat kQ5_1 = make_tile_format(5, 0, true, 1, 0);
inline constexpr TileFormat kQ8_0 = make_tile_format(8, 128, false, 1, 0);
inline constexpr TileFormat kQ4_K = make_tile_format(4, 0, true, 8, 1);
inline constexpr TileFormat kQ5_K = make_tile_format(5, 0, true, 8, 1);
inline constexpr TileFormat kQ6_K = make_tile_format(6, 32, false, 8, 2);

/// A packed matrix as kernels see it.
struct TileView {
  DType type;
  const std::uint8_t* tiles;  ///< [⌈outputs / 16⌉, tile_bytes]
  std::int64_t tile_bytes;
  std::int64_t blocks;   ///< columns / 32, padding included
  std::int64_t outputs;  ///< rows, without padding
};

/// Activations as decode kernels read them: n rows of 32 · blocks columns, padded with zeros.
/// Which arrays are filled depends on the compute mode.
struct DecodeInput {
  std::int64_t rows;
  std::int64_t blocks;
  const float* values;            ///< [rows, 32 · blocks]; in bf16 mode rounded to bfloat16
  const float* sums;              ///< [rows, blocks]: sums of values
  const std::uint16_t* pairs;     ///< [rows, 32 · blocks]: values as bfloat16
  const std::int8_t* codes;       ///< [rows, 32 · blocks]: value ≈ scale · code
  const float* scales;            ///< [rows, blocks]; NaN where a value is not finite
  const std::int32_t* code_sums;  ///< [rows, 2 · blocks]: sums of 16 codes
  const float* scaled_sums;       ///< [rows, blocks]: scale · sum of 32 codes
};

/// out [rows, outputs] (+)= input · weightᵀ for the outputs of tiles [begin, end).
using MultiplyTiles = void (*)(const TileView& weight, std::int64_t begin, std::int64_t end,
                               const DecodeInput& input, bool add, float* out);

/// Expands one tile to values, 16 rows side by side. Floats: column c begins at destination +
/// stride · c. Pairs of bfloat16: columns 2p and 2p + 1, interleaved, begin at destination + stride
/// · p, counted in pairs.
using ExpandTile = void (*)(const TileView& weight, std::int64_t tile, std::int64_t stride,
                            void* destination);

/// What an instruction set offers for one type.
struct TileKernels {
  MultiplyTiles multiply_f32;
  MultiplyTiles multiply_bf16;
  MultiplyTiles multiply_q8;  ///< plain types meet float activations
  ExpandTile expand_f32;
  ExpandTile expand_rounded;  ///< floats that are rounded to bfloat16, or null
  ExpandTile expand_pairs;    ///< or null
};

/// Portable kernels for the best instruction set that this processor has.
TileKernels portable_kernels(DType type);
/// Kernels for AVX-512 with VNNI, BF16 and VBMI. REQUIRES: an x86-64 processor that has them.
TileKernels avx512_kernels(DType type);

}  // namespace sift::cpu
