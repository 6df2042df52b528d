#include "sift/core/quantise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "sift/core/block_formats.h"
#include "sift/core/half.h"

namespace sift {
namespace {

using Values = std::span<const float>;

/// The nearest q in [low, high] to x / step; 0 for a step of 0.
int nearest(float x, float step, int low, int high) {
  if (step == 0) return std::clamp(0, low, high);
  const float scaled = std::clamp(x / step, static_cast<float>(low), static_cast<float>(high));
  return static_cast<int>(std::lrintf(scaled));
}

/// The value of largest magnitude, with its sign.
float extreme(Values x) {
  return *std::ranges::max_element(x, {}, [](float value) { return std::abs(value); });
}

template <std::size_t N>
void add_nibble(std::uint8_t (&q)[N], int i, int value) {
  q[i % 16] = static_cast<std::uint8_t>(q[i % 16] | (value & 15) << (i < 16 ? 0 : 4));
}

void add_high_bit(std::uint8_t (&high)[4], int i, int value) {
  high[i / 8] = static_cast<std::uint8_t>(high[i / 8] | ((value >> 4) & 1) << (i % 8));
}

void fill(BlockQ8_0& block, Values x) {
  block.d = static_cast<Half>(std::abs(extreme(x)) / 127.0F);
  for (std::size_t i = 0; i < x.size(); ++i) {
    block.q[i] = static_cast<std::int8_t>(nearest(x[i], static_cast<float>(block.d), -127, 127));
  }
}

/// Formats d · (q − 2^(bits−1)): the extreme value takes q = 0, the one code without a mirror
/// image.
template <class Block>
void fill_signed(Block& block, Values x, int bits) {
  const int zero = 1 << (bits - 1);
  block.d = static_cast<Half>(extreme(x) / static_cast<float>(-zero));
  for (int i = 0; i < Block::kValues; ++i) {
    const int q = nearest(x[i], static_cast<float>(block.d), -zero, zero - 1) + zero;
    add_nibble(block.q, i, q);
    if constexpr (requires { block.high; }) add_high_bit(block.high, i, q);
  }
}

/// Formats d · q + m.
template <class Block>
void fill_with_minimum(Block& block, Values x, int bits) {
  const auto [low, high] = std::ranges::minmax(x);
  const int top = (1 << bits) - 1;
  block.d = static_cast<Half>((high - low) / static_cast<float>(top));
  block.m = static_cast<Half>(low);
  for (int i = 0; i < Block::kValues; ++i) {
    const float above = x[i] - static_cast<float>(block.m);
    const int q = nearest(above, static_cast<float>(block.d), 0, top);
    add_nibble(block.q, i, q);
    if constexpr (requires { block.high; }) add_high_bit(block.high, i, q);
  }
}

void fill(BlockQ4_0& block, Values x) { fill_signed(block, x, 4); }
void fill(BlockQ5_0& block, Values x) { fill_signed(block, x, 5); }
void fill(BlockQ4_1& block, Values x) { fill_with_minimum(block, x, 4); }
void fill(BlockQ5_1& block, Values x) { fill_with_minimum(block, x, 5); }

/// The twelve bytes that scale_and_min() in dequantise.cc unpacks.
void pack_scales(std::uint8_t (&packed)[12], const std::array<int, 8>& scales,
                 const std::array<int, 8>& mins) {
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<std::uint8_t>(scales[j] | scales[j + 4] >> 4 << 6);
    packed[j + 4] = static_cast<std::uint8_t>(mins[j] | mins[j + 4] >> 4 << 6);
    packed[j + 8] = static_cast<std::uint8_t>((scales[j + 4] & 15) | (mins[j + 4] & 15) << 4);
  }
}

template <class Block>
void fill_k_with_minimum(Block& block, Values x, int bits) {
  const int top = (1 << bits) - 1;
  std::array<float, 8> steps;
  std::array<float, 8> minima;
  for (std::size_t j = 0; j < 8; ++j) {
    const auto [low, high] = std::ranges::minmax(x.subspan(32 * j, 32));
    minima[j] = std::max(0.0F, -low);
    steps[j] = (std::max(high, 0.0F) + minima[j]) / static_cast<float>(top);
  }
  block.d = static_cast<Half>(std::ranges::max(steps) / 63.0F);
  block.dmin = static_cast<Half>(std::ranges::max(minima) / 63.0F);
  std::array<int, 8> scales;
  std::array<int, 8> mins;
  for (std::size_t j = 0; j < 8; ++j) {
    scales[j] = nearest(steps[j], static_cast<float>(block.d), 0, 63);
    mins[j] = nearest(minima[j], static_cast<float>(block.dmin), 0, 63);
  }
  pack_scales(block.scales, scales, mins);
  for (int i = 0; i < Block::kValues; ++i) {
    const float step = static_cast<float>(block.d) * static_cast<float>(scales[i / 32]);
    const float min = static_cast<float>(block.dmin) * static_cast<float>(mins[i / 32]);
    const int q = nearest(x[i] + min, step, 0, top);
    std::uint8_t& byte = block.q[i / 64 * 32 + i % 32];
    byte = static_cast<std::uint8_t>(byte | (q & 15) << (i % 64 < 32 ? 0 : 4));
    if constexpr (requires { block.high; }) {
      block.high[i % 32] = static_cast<std::uint8_t>(block.high[i % 32] | q >> 4 << (i / 32));
    }
  }
}

void fill(BlockQ4_K& block, Values x) { fill_k_with_minimum(block, x, 4); }
void fill(BlockQ5_K& block, Values x) { fill_k_with_minimum(block, x, 5); }

void fill(BlockQ6_K& block, Values x) {
  std::array<float, 16> steps;
  for (std::size_t j = 0; j < 16; ++j) steps[j] = extreme(x.subspan(16 * j, 16)) / -32.0F;
  block.d = static_cast<Half>(std::abs(extreme(Values(steps))) / 127.0F);
  for (std::size_t j = 0; j < 16; ++j) {
    block.scales[j] =
        static_cast<std::int8_t>(nearest(steps[j], static_cast<float>(block.d), -127, 127));
  }
  for (int i = 0; i < BlockQ6_K::kValues; ++i) {
    const std::int8_t scale = block.scales[i / 16];
    const float step = static_cast<float>(block.d) * static_cast<float>(scale);
    const int q = nearest(x[i], step, -32, 31) + 32;
    const int half = i / 128;
    const int quarter = i % 128 / 32;
    std::uint8_t& low = block.low[64 * half + 32 * (quarter % 2) + i % 32];
    std::uint8_t& high = block.high[32 * half + i % 32];
    low = static_cast<std::uint8_t>(low | (q & 15) << (quarter < 2 ? 0 : 4));
    high = static_cast<std::uint8_t>(high | q >> 4 << (2 * quarter));
  }
}

template <class Block>
void store_blocks(const float* source, std::int64_t count, std::byte* destination) {
  for (std::int64_t first = 0; first < count; first += Block::kValues) {
    Block block{};
    fill(block, Values(source + first, Block::kValues));
    std::memcpy(destination, &block, sizeof(Block));
    destination += sizeof(Block);
  }
}

template <class Scalar>
void store_scalars(const float* source, std::int64_t count, std::byte* destination) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto stored = static_cast<Scalar>(source[i]);
    std::memcpy(destination + static_cast<std::size_t>(i) * sizeof(Scalar), &stored,
                sizeof(Scalar));
  }
}

}  // namespace

void quantise(DType type, const float* source, std::int64_t count, std::byte* destination) {
  switch (type) {
    case DType::f32:
      return store_scalars<float>(source, count, destination);
    case DType::f16:
      return store_scalars<Half>(source, count, destination);
    case DType::bf16:
      return store_scalars<BFloat16>(source, count, destination);
    case DType::q8_0:
      return store_blocks<BlockQ8_0>(source, count, destination);
    case DType::q4_0:
      return store_blocks<BlockQ4_0>(source, count, destination);
    case DType::q4_1:
      return store_blocks<BlockQ4_1>(source, count, destination);
    case DType::q5_0:
      return store_blocks<BlockQ5_0>(source, count, destination);
    case DType::q5_1:
      return store_blocks<BlockQ5_1>(source, count, destination);
    case DType::q4_k:
      return store_blocks<BlockQ4_K>(source, count, destination);
    case DType::q5_k:
      return store_blocks<BlockQ5_K>(source, count, destination);
    case DType::q6_k:
      return store_blocks<BlockQ6_K>(source, count, destination);
  }
}

}  // namespace sift
