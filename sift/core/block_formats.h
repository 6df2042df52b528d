#pragma once

#include <cstdint>

#include "sift/core/half.h"

namespace sift {

// The block formats of GGUF: how a run of consecutive values of a row is stored. They are read
// straight from mapped files, so sizes and member order are part of the format.
//
// In formats with 32 values the low nibbles hold values 0..15 and the high nibbles values 16..31.

struct BlockQ8_0 {  // value = d * q
  static constexpr int kValues = 32;
  Half d;
  std::int8_t q[32];
};

struct BlockQ4_0 {  // value = d * (q - 8)
  static constexpr int kValues = 32;
  Half d;
  std::uint8_t q[16];
};

struct BlockQ4_1 {  // value = d * q + m
  static constexpr int kValues = 32;
  Half d;
  Half m;
  std::uint8_t q[16];
};

struct BlockQ5_0 {  // value = d * (q - 16); bit i of `high` is the fifth bit of value i
  static constexpr int kValues = 32;
  Half d;
  std::uint8_t high[4];
  std::uint8_t q[16];
};

struct BlockQ5_1 {  // value = d * q + m
  static constexpr int kValues = 32;
  Half d;
  Half m;
  std::uint8_t high[4];
  std::uint8_t q[16];
};

// The K formats hold 256 values in sub-blocks, whose scales are themselves quantised.

struct BlockQ4_K {  // 8 sub-blocks of 32: value = d * scale * q - dmin * min, 6-bit scale and min
  static constexpr int kValues = 256;
  Half d;
  Half dmin;
  std::uint8_t scales[12];
  std::uint8_t q[128];
};

struct BlockQ5_K {  // as Q4_K, with a fifth bit in `high`
  static constexpr int kValues = 256;
  Half d;
  Half dmin;
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t q[128];
};

struct BlockQ6_K {  // 16 sub-blocks of 16: value = d * scale * (q - 32)
  static constexpr int kValues = 256;
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  Half d;
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

}  // namespace sift
