#pragma once

// Building blocks of the AVX-512 kernels: how tiles become vectors in which a lane is a row. Only
// translation units named *_avx512.cc include this file; everything has internal linkage, so that
// no code for AVX-512 is merged into functions that other processors run.

#include <immintrin.h>

#include <cstdint>

#include "sift/kernels/cpu/tile_format.h"

namespace sift::cpu {
namespace {

#define SIFT_INLINE inline __attribute__((always_inline))
#define SIFT_LAMBDA_INLINE __attribute__((always_inline))
// Arrays of vectors live in registers only when the loops over them are unrolled.
#if defined(__clang__)
#define SIFT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SIFT_UNROLL _Pragma("GCC unroll 8")
#endif

/// Codes of 32 columns: lane = row, byte j of v[k] = column 4k + j.
struct Codes {
  __m512i v[8];
};

SIFT_INLINE __m512i load(const std::uint8_t* p) { return _mm512_loadu_si512(p); }

/// code |= high bits, taken from plane shifted left by `left` (right when negative).
template <int left>
SIFT_INLINE __m512i merge_high(__m512i code, __m512i plane, __m512i mask) {
  __m512i moved = plane;
  if constexpr (left > 0) moved = _mm512_slli_epi32(plane, left);
  if constexpr (left < 0) moved = _mm512_srli_epi32(plane, -left);
  return _mm512_ternarylogic_epi32(code, moved, mask, 0xF8);  // code | (moved & mask)
}

template <TileFormat format>
SIFT_INLINE Codes load_codes(const std::uint8_t* block) {
  Codes codes;
  const std::uint8_t* low = block + format.low_offset;
  if constexpr (format.bits == 8) {
    SIFT_UNROLL
    for (int k = 0; k < 8; ++k) codes.v[k] = load(low + 64 * k);
    return codes;
  }
  const __m512i nibble = _mm512_set1_epi8(15);
  SIFT_UNROLL
  for (int k = 0; k < 4; ++k) {
    const __m512i both = load(low + 64 * k);
    codes.v[k] = _mm512_and_si512(both, nibble);
    codes.v[k + 4] = _mm512_and_si512(_mm512_srli_epi32(both, 4), nibble);
  }
  const std::uint8_t* high = block + format.high_offset;
  if constexpr (format.bits == 5) {
    const __m512i mask = _mm512_set1_epi8(16);
    const __m512i plane = load(high);
    codes.v[0] = merge_high<4>(codes.v[0], plane, mask);
    codes.v[1] = merge_high<3>(codes.v[1], plane, mask);
    codes.v[2] = merge_high<2>(codes.v[2], plane, mask);
    codes.v[3] = merge_high<1>(codes.v[3], plane, mask);
    codes.v[4] = merge_high<0>(codes.v[4], plane, mask);
    codes.v[5] = merge_high<-1>(codes.v[5], plane, mask);
    codes.v[6] = merge_high<-2>(codes.v[6], plane, mask);
    codes.v[7] = merge_high<-3>(codes.v[7], plane, mask);
  }
  if constexpr (format.bits == 6) {
    const __m512i mask = _mm512_set1_epi8(48);
    SIFT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const __m512i plane = load(high + 64 * half);
      __m512i* v = codes.v + 4 * half;
      v[0] = merge_high<4>(v[0], plane, mask);
      v[1] = merge_high<2>(v[1], plane, mask);
      v[2] = merge_high<0>(v[2], plane, mask);
      v[3] = merge_high<-2>(v[3], plane, mask);
    }
  }
  return codes;
}

/// What turns codes − offset into floats: tables for up to 5 bits, arithmetic for more.
template <TileFormat format>
struct CodeTable {
  __m512 low;
  __m512 high;
  __m512i bias;

  SIFT_INLINE CodeTable() {
    const __m512 ramp = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    low = _mm512_sub_ps(ramp, _mm512_set1_ps(format.offset));
    high = _mm512_add_ps(low, _mm512_set1_ps(16));
    bias = _mm512_set1_epi8(static_cast<char>(format.offset));
  }

  /// Byte j of every lane.
  template <int j>
  SIFT_INLINE __m512 value(__m512i codes) const {
    if constexpr (format.bits == 4) {
      return _mm512_permutexvar_ps(_mm512_srli_epi32(codes, 8 * j), low);
    } else if constexpr (format.bits == 5) {
      return _mm512_permutex2var_ps(low, _mm512_srli_epi32(codes, 8 * j), high);
    } else {
      const __m512i top = _mm512_slli_epi32(_mm512_sub_epi8(codes, bias), 24 - 8 * j);
      return _mm512_cvtepi32_ps(_mm512_srai_epi32(top, 24));
    }
  }
};

SIFT_INLINE __m512 load_halves(const std::uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

/// 16 small signed integers as floats; those with a min are below 64.
SIFT_INLINE __m512 load_bytes(const std::uint8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

/// Step of the columns of half `half` of a block; `d` is the header's.
template <TileFormat format>
SIFT_INLINE __m512 step_of(__m512 d, const std::uint8_t* block, int half) {
  if constexpr (format.scales == 0) return d;
  return _mm512_mul_ps(d, load_bytes(block + (format.scales == 2 ? 16 * half : 0)));
}

template <TileFormat format>
SIFT_INLINE __m512 min_of(__m512 m, const std::uint8_t* block) {
  if constexpr (!format.has_min) return _mm512_setzero_ps();
  if constexpr (format.scales == 0) return m;
  return _mm512_mul_ps(m, load_bytes(block + 16 * format.scales));
}

/// Calls visit(header's d, header's m, block, index of the block) for each block of a tile.
template <TileFormat format, class Visit>
SIFT_INLINE void visit_blocks(const TileView& weight, std::int64_t tile, Visit visit) {
  const std::uint8_t* header = weight.tiles + tile * weight.tile_bytes;
  for (std::int64_t b = 0; b < weight.blocks; b += format.blocks) {
    const __m512 d = load_halves(header);
    const __m512 m = format.has_min ? load_halves(header + 32) : _mm512_setzero_ps();
    const std::uint8_t* block = header + format.header_bytes;
    for (int sub = 0; sub < format.blocks; ++sub, block += format.block_bytes) {
      visit(d, m, block, b + sub);
    }
    header += format.group_bytes;
  }
}

/// Writes or adds the sums of a tile's 16 rows, less those that are padding.
SIFT_INLINE void store_tile(const TileView& weight, std::int64_t tile, __m512 sums, bool add,
                            float* out) {
  const std::int64_t left = weight.outputs - tile * kTileRows;
  const auto mask = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
  out += tile * kTileRows;
  if (add) sums = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), sums);
  _mm512_mask_storeu_ps(out, mask, sums);
}

/// Pairs of bfloat16, typed as the dot product takes them.
SIFT_INLINE __m512bh as_bfloat(__m512i pairs) {
#if defined(__clang__)
  // Empty, but hides where the pairs come from. Clang 16 would otherwise make a permutation or
  // broadcast before this a shuffle of bfloat16, and the optimiser's cost model for x86 recurses
  // until the stack overflows when it is asked about a shuffle of that type.
  asm("" : "+v"(pairs));
#endif
  return reinterpret_cast<__m512bh>(pairs);
}

/// Columns 2p and 2p + 1 as pairs of bfloat16 in each lane.
SIFT_INLINE __m512i round_pairs(__m512 even, __m512 odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  return _mm512_permutexvar_epi16(order, rounded);
}

/// Calls visit(p, even, odd) with the values of columns 2p and 2p + 1 of one block of codes.
template <TileFormat format, class Visit>
SIFT_INLINE void visit_values(const CodeTable<format>& table, __m512 d, __m512 m,
                              const std::uint8_t* block, Visit visit) {
  const Codes codes = load_codes<format>(block);
  const __m512 min = min_of<format>(m, block);
  SIFT_UNROLL
  for (int k = 0; k < 8; ++k) {
    const __m512 step = step_of<format>(d, block, k / 4);
    const auto value = [&](__m512 code) {
      return format.has_min ? _mm512_fmadd_ps(step, code, min) : _mm512_mul_ps(step, code);
    };
    visit(2 * k, value(table.template value<0>(codes.v[k])),
          value(table.template value<1>(codes.v[k])));
    visit(2 * k + 1, value(table.template value<2>(codes.v[k])),
          value(table.template value<3>(codes.v[k])));
  }
}

/// Columns 2p and 2p + 1 of a tile of plain values.
template <DType type>
SIFT_INLINE void load_plain(const std::uint8_t* tile, std::int64_t p, __m512& even, __m512& odd) {
  if constexpr (type == DType::f32) {
    even = _mm512_loadu_ps(tile + 128 * p);
    odd = _mm512_loadu_ps(tile + 128 * p + 64);
  } else if constexpr (type == DType::f16) {
    even = load_halves(tile + 64 * p);
    odd = load_halves(tile + 64 * p + 32);
  } else {
    const __m512i pair = load(tile + 64 * p);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(-65536)));
  }
}

/// Columns 2p and 2p + 1 of a tile of plain values, rounded to bfloat16.
template <DType type>
SIFT_INLINE __m512i load_plain_pairs(const std::uint8_t* tile, std::int64_t p) {
  if constexpr (type == DType::bf16) return load(tile + 64 * p);
  __m512 even;
  __m512 odd;
  load_plain<type>(tile, p, even, odd);
  return round_pairs(even, odd);
}

}  // namespace
}  // namespace sift::cpu
