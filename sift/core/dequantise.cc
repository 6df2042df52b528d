#include "sift/core/dequantise.h"

#include <cstring>

#include "sift/core/block_formats.h"
#include "sift/core/half.h"

namespace sift {
namespace {

// One value of each format, by its index in the block. A format's definition is this function.

/// Nibble `i` of the formats with 32 values: low halves first.
int nibble(const std::uint8_t* q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

int bit(const std::uint8_t* bits, int i) { return (bits[i / 8] >> (i % 8)) & 1; }

float value(const BlockQ8_0& block, int i) {
  return static_cast<float>(block.d) * static_cast<float>(block.q[i]);
}

float value(const BlockQ4_0& block, int i) {
  return static_cast<float>(block.d) * static_cast<float>(nibble(block.q, i) - 8);
}

float value(const BlockQ4_1& block, int i) {
  return static_cast<float>(block.d) * static_cast<float>(nibble(block.q, i)) +
         static_cast<float>(block.m);
}

float value(const BlockQ5_0& block, int i) {
  const int q = nibble(block.q, i) | bit(block.high, i) << 4;
  return static_cast<float>(block.d) * static_cast<float>(q - 16);
}

float value(const BlockQ5_1& block, int i) {
  const int q = nibble(block.q, i) | bit(block.high, i) << 4;
  return static_cast<float>(block.d) * static_cast<float>(q) + static_cast<float>(block.m);
}

struct ScaleAndMin {
  int scale;
  int min;
};

/// The 6-bit scale and min of sub-block j in 0..7. Bytes 0..3 and 4..7 hold the scales and mins of
/// sub-blocks 0..3; bytes 8..11 hold the low 4 bits of the others' scale and min, whose high 2 bits
/// are the top bits of the first eight bytes.
ScaleAndMin scale_and_min(const std::uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, (packed[j + 4] >> 4) | (packed[j] >> 6)
                                                                                       << 4};
}

/// Nibble `i` of a 256-value block: each run of 32 bytes holds 64 values, low halves first.
int k_nibble(const std::uint8_t* q, int i) {
  const int byte = q[i / 64 * 32 + i % 32];
  return i % 64 < 32 ? byte & 15 : byte >> 4;
}

float k_value(Half d, Half dmin, ScaleAndMin sub_block, int q) {
  const float step = static_cast<float>(d) * static_cast<float>(sub_block.scale);
  const float min = static_cast<float>(dmin) * static_cast<float>(sub_block.min);
  return step * static_cast<float>(q) - min;
}

float value(const BlockQ4_K& block, int i) {
  return k_value(block.d, block.dmin, scale_and_min(block.scales, i / 32), k_nibble(block.q, i));
}

float value(const BlockQ5_K& block, int i) {
  const int high = (block.high[i % 32] >> (i / 32)) & 1;  // bit j belongs to sub-block j
  return k_value(block.d, block.dmin, scale_and_min(block.scales, i / 32),
                 k_nibble(block.q, i) | high << 4);
}

/// Each half of 128 values has 64 low bytes and 32 high bytes. Its quarters of 32 take the low
/// nibbles of the first and second 32 low bytes, then their high nibbles, and two high bits each.
float value(const BlockQ6_K& block, int i) {
  const int half = i / 128;
  const int quarter = i % 128 / 32;
  const int low_byte = block.low[64 * half + 32 * (quarter % 2) + i % 32];
  const int low = quarter < 2 ? low_byte & 15 : low_byte >> 4;
  const int high = (block.high[32 * half + i % 32] >> (2 * quarter)) & 3;
  const std::int8_t scale = block.scales[i / 16];
  const float step = static_cast<float>(block.d) * static_cast<float>(scale);
  return step * static_cast<float>((low | high << 4) - 32);
}

template <class Block>
void expand_blocks(const std::byte* source, std::int64_t count, float* destination) {
  for (std::int64_t first = 0; first < count; first += Block::kValues) {
    Block block;
    std::memcpy(&block, source, sizeof(Block));
    source += sizeof(Block);
    for (int i = 0; i < Block::kValues; ++i) destination[first + i] = value(block, i);
  }
}

template <class Scalar>
void expand_scalars(const std::byte* source, std::int64_t count, float* destination) {
  for (std::int64_t i = 0; i < count; ++i) {
    Scalar stored;
    std::memcpy(&stored, source + static_cast<std::size_t>(i) * sizeof(Scalar), sizeof(Scalar));
    destination[i] = static_cast<float>(stored);
  }
}

}  // namespace

void dequantise(DType type, const std::byte* source, std::int64_t count, float* destination) {
  switch (type) {
    case DType::f32:
      return expand_scalars<float>(source, count, destination);
    case DType::f16:
      return expand_scalars<Half>(source, count, destination);
    case DType::bf16:
      return expand_scalars<BFloat16>(source, count, destination);
    case DType::q8_0:
      return expand_blocks<BlockQ8_0>(source, count, destination);
    case DType::q4_0:
      return expand_blocks<BlockQ4_0>(source, count, destination);
    case DType::q4_1:
      return expand_blocks<BlockQ4_1>(source, count, destination);
    case DType::q5_0:
      return expand_blocks<BlockQ5_0>(source, count, destination);
    case DType::q5_1:
      return expand_blocks<BlockQ5_1>(source, count, destination);
    case DType::q4_k:
      return expand_blocks<BlockQ4_K>(source, count, destination);
    case DType::q5_k:
      return expand_blocks<BlockQ5_K>(source, count, destination);
    case DType::q6_k:
      return expand_blocks<BlockQ6_K>(source, count, destination);
  }
}

}  // namespace sift
