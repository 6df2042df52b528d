#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/core/host_device.h"

namespace sift {

// A shadow of a key: a copy in few bits, from which scores are estimated
// (docs/method.md). It is a function of the key as the cache holds it, so that it can be made again
// from the cache, and by any backend.
//
// Layout of the shadow of one key of D values (D a multiple of 32 and of the block B), all numbers
// little endian, nothing padded:
//
//   b bits (4, 3 or 2)    D·b/8 bytes: codes. Code i takes the bits b·i … b·i + b − 1 of the row,
//                         bit 0 being the lowest of byte 0: for b = 4, byte j holds code 2j in its
//                         low half and code 2j + 1 in its high half.
//                         D/B times 4 bytes: scale and zero of a block, two IEEE halves.
//                         value i = zero + scale · code i
//   fp8                   D bytes: codes in e4m3 (sign, 4 bits of exponent with bias 7, 3 of
//                         mantissa; no infinities; largest 448).
//                         4 bytes: scale of the row, a float.
//                         value i = scale · code i
//
// Code i stands for value i of the key, or, with ShadowOrder::pairs_parted, for value 2i in the
// first half of the codes and for value 2i − D + 1 in the second: the order of models whose rotary
// embedding turns value i with value i + D/2, for keys in which it turns neighbours. The same
// model's keys then have the same blocks, in which values are more alike, whatever file they came
// from.
//
//   D = 64:   4 bit per 32: 40 bytes, per 64: 36; 3 bit per 16: 40; 2 bit per 16: 32; fp8: 68
//   D = 128:  4 bit per 32: 80 bytes, per 64: 72; 3 bit per 16: 80; 2 bit per 16: 64; fp8: 132

/// How the values of a key are coded: integers of so many bits, or floating-point numbers of 8.
enum class ShadowCode : std::uint8_t { bits4, fp8, bits3, bits2 };

/// Which value of a key a code stands for.
enum class ShadowOrder : std::uint8_t { as_stored, pairs_parted };

struct KeyShadowFormat {
  ShadowCode code = ShadowCode::bits4;
  std::int64_t block = 32;  ///< values that share a scale and a zero: 16, 32 or 64; not for fp8
  ShadowOrder order = ShadowOrder::as_stored;

  bool operator==(const KeyShadowFormat&) const = default;
};

/// Bits of one code.
SIFT_HOST_DEVICE constexpr int code_bits(ShadowCode code) {
  switch (code) {
    case ShadowCode::bits4:
      return 4;
    case ShadowCode::fp8:
      return 8;
    case ShadowCode::bits3:
      return 3;
    case ShadowCode::bits2:
      return 2;
  }
  return 0;
}

/// Index of the value that code `code` stands for.
SIFT_HOST_DEVICE constexpr int shadowed_value(ShadowOrder order, int head_dim, int code) {
  if (order == ShadowOrder::as_stored) return code;
  return code < head_dim / 2 ? 2 * code : 2 * code - head_dim + 1;
}

/// Bytes of one row of codes, without what follows it.
SIFT_HOST_DEVICE constexpr std::size_t code_row_bytes(const KeyShadowFormat& format, int head_dim) {
  return static_cast<std::size_t>(head_dim) / 8 * static_cast<std::size_t>(code_bits(format.code));
}

/// Bytes of what follows a row of codes: its scales, and zeros where codes are integers.
SIFT_HOST_DEVICE constexpr std::size_t scale_row_bytes(const KeyShadowFormat& format,
                                                       int head_dim) {
  const std::int64_t scales = format.code == ShadowCode::fp8 ? 1 : head_dim / format.block;
  return static_cast<std::size_t>(scales) * 4;
}

/// Bytes of the shadow of one key. Throws Error (invalid_argument) for a head dimension that is not
/// a multiple of 32 and of the block.
std::size_t key_shadow_row_bytes(const KeyShadowFormat& format, int head_dim);

/// Codes of a key [head_dim] as the cache holds it. All arithmetic is in float and rounds to
/// nearest, ties to even, so that every implementation gives the same bytes:
///
///   zero = half(min + 0), scale = half((max + 0 − zero) / (2^b − 1)), both held within ±65504
///   (adding 0 turns −0 into 0);
///   code = round((value − zero) / scale), held within 0 … 2^b − 1, and 0 where scale is 0.
///   fp8: scale = max|value| / 448, code = e4m3(value / scale), and 0 where scale is 0.
///
/// A block (row, for fp8) with a value that is not finite gets codes of 0 and a zero (scale) of
/// NaN, so that scores find it.
void write_key_shadow(const KeyShadowFormat& format, const float* key, int head_dim,
                      std::byte* shadow);

/// The key [head_dim] that a shadow stands for.
void read_key_shadow(const KeyShadowFormat& format, const std::byte* shadow, int head_dim,
                     float* key);

}  // namespace sift
