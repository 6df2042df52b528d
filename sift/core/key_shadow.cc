#include "sift/core/key_shadow.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "sift/core/error.h"
#include "sift/core/half.h"

namespace sift {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr float kLargestHalf = 65504;
constexpr float kLargestE4m3 = 448;
constexpr float kSmallestNormalE4m3 = 0x1p-6F;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// What all values of a block share.
struct BlockScale {
  Half scale = 0;
  Half zero = 0;
};
static_assert(sizeof(BlockScale) == 4);

/// Rounds 0 ≤ value < 2^22 to the nearest integer, ties to even, without a call.
float round_to_even(float value) {
  constexpr float kShift = 0x1.8p23F;
  return (value + kShift) - kShift;
}

Half saturated_half(float value) {
  return static_cast<Half>(std::clamp(value, -kLargestHalf, kLargestHalf));
}

bool all_finite(const float* values, std::int64_t count) {
  return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

BlockScale scale_of(const float* values, std::int64_t count, int highest_code) {
  if (!all_finite(values, count)) return {0, static_cast<Half>(kNaN)};
  const auto [least, greatest] = std::minmax_element(values, values + count);
  // Adding 0 turns −0 into 0: which zero of equals is found is no property of the key.
  const Half zero = saturated_half(*least + 0.0F);
  const float range = *greatest + 0.0F - static_cast<float>(zero);
  return {saturated_half(range / static_cast<float>(highest_code)), zero};
}

std::uint32_t code_of(float value, const BlockScale& block, int highest_code) {
  const auto scale = static_cast<float>(block.scale);
  if (scale == 0) return 0;
  const float steps = (value - static_cast<float>(block.zero)) / scale;
  const float held = std::clamp(steps, 0.0F, static_cast<float>(highest_code));
  return static_cast<std::uint32_t>(round_to_even(held));
}

/// Eight codes of `bits` bits from value `first` on, the first one lowest.
std::uint32_t eight_codes(const float* key, std::int64_t first, const BlockScale& block, int bits) {
  const int highest_code = (1 << bits) - 1;
  std::uint32_t codes = 0;
  for (int i = 0; i < 8; ++i) {
    codes |= code_of(key[first + i], block, highest_code) << (bits * i);
  }
  return codes;
}

void write_integers(const KeyShadowFormat& format, const float* key, int head_dim,
                    std::byte* shadow) {
  const int bits = code_bits(format.code);
  std::byte* scales = shadow + code_row_bytes(format, head_dim);
  for (std::int64_t first = 0; first < head_dim; first += format.block) {
    const BlockScale block = scale_of(key + first, format.block, (1 << bits) - 1);
    std::memcpy(scales + first / format.block * sizeof(block), &block, sizeof(block));
    for (std::int64_t i = first; i < first + format.block; i += 8) {
      const std::uint32_t codes = eight_codes(key, i, block, bits);
      std::memcpy(shadow + i / 8 * bits, &codes, static_cast<std::size_t>(bits));
    }
  }
}

void read_integers(const KeyShadowFormat& format, const std::byte* shadow, int head_dim,
                   float* key) {
  const int bits = code_bits(format.code);
  const std::byte* scales = shadow + code_row_bytes(format, head_dim);
  for (std::int64_t first = 0; first < head_dim; first += 8) {
    BlockScale block;
    std::memcpy(&block, scales + first / format.block * sizeof(block), sizeof(block));
    std::uint32_t codes = 0;
    std::memcpy(&codes, shadow + first / 8 * bits, static_cast<std::size_t>(bits));
    for (int i = 0; i < 8; ++i, codes >>= bits) {
      const std::uint32_t code = codes & ((1U << bits) - 1);
      key[first + i] = static_cast<float>(block.zero) +
                       static_cast<float>(block.scale) * static_cast<float>(code);
    }
  }
}

std::uint8_t to_e4m3(float value) {
  const std::uint32_t sign = std::bit_cast<std::uint32_t>(value) >> 31;
  const float magnitude = std::min(std::fabs(value), kLargestE4m3);
  std::uint32_t code = 0;
  if (magnitude < kSmallestNormalE4m3) {
    code = static_cast<std::uint32_t>(round_to_even(magnitude * 0x1p9F));
  } else {
    // Keeps 3 of the 23 bits of the mantissa, and moves the bias of the exponent from 127 to 7.
    const auto word = std::bit_cast<std::uint32_t>(magnitude);
    code = ((word + 0x7ffffU + ((word >> 20) & 1U)) >> 20) - (120U << 3);
  }
  return static_cast<std::uint8_t>(sign << 7 | code);
}

/// A half has the same form with a bias of 15 and 7 more bits of mantissa.
float from_e4m3(std::uint8_t code) {
  const auto word = static_cast<std::uint16_t>((code & 0x80U) << 8 | (code & 0x7fU) << 7);
  return static_cast<float>(std::bit_cast<Half>(word)) * 0x1p8F;
}

void write_fp8(const float* key, int head_dim, std::byte* shadow) {
  float greatest = 0;
  for (int i = 0; i < head_dim; ++i) greatest = std::max(greatest, std::fabs(key[i]));
  const bool finite = all_finite(key, head_dim);
  const float scale = finite ? greatest / kLargestE4m3 : kNaN;
  for (int i = 0; i < head_dim; ++i) {
    const std::uint8_t code = scale > 0 ? to_e4m3(key[i] / scale) : 0;
    shadow[i] = std::byte{code};
  }
  std::memcpy(shadow + head_dim, &scale, sizeof(scale));
}

void read_fp8(const std::byte* shadow, int head_dim, float* key) {
  float scale = 0;
  std::memcpy(&scale, shadow + head_dim, sizeof(scale));
  for (int i = 0; i < head_dim; ++i) {
    key[i] = scale * from_e4m3(std::to_integer<std::uint8_t>(shadow[i]));
  }
}

}  // namespace

std::size_t key_shadow_row_bytes(const KeyShadowFormat& format, int head_dim) {
  const bool scaled_by_row = format.code == ShadowCode::fp8;
  const std::int64_t multiple = scaled_by_row ? 32 : std::max<std::int64_t>(format.block, 32);
  if (head_dim < 1 || head_dim % multiple != 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("a shadow of keys in {} values a block needs a head dimension that is "
                            "a multiple of {}, this one is {}",
                            format.block, multiple, head_dim));
  }
  return code_row_bytes(format, head_dim) + scale_row_bytes(format, head_dim);
}

void write_key_shadow(const KeyShadowFormat& format, const float* key, int head_dim,
                      std::byte* shadow) {
  std::vector<float> ordered(static_cast<std::size_t>(head_dim));
  for (int i = 0; i < head_dim; ++i) {
    ordered[static_cast<std::size_t>(i)] = key[shadowed_value(format.order, head_dim, i)];
  }
  if (format.code == ShadowCode::fp8) {
    write_fp8(ordered.data(), head_dim, shadow);
  } else {
    write_integers(format, ordered.data(), head_dim, shadow);
  }
}

void read_key_shadow(const KeyShadowFormat& format, const std::byte* shadow, int head_dim,
                     float* key) {
  std::vector<float> ordered(static_cast<std::size_t>(head_dim));
  if (format.code == ShadowCode::fp8) {
    read_fp8(shadow, head_dim, ordered.data());
  } else {
    read_integers(format, shadow, head_dim, ordered.data());
  }
  for (int i = 0; i < head_dim; ++i) {
    key[shadowed_value(format.order, head_dim, i)] = ordered[static_cast<std::size_t>(i)];
  }
}

}  // namespace sift
