#include "sift/core/dequantise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <span>
#include <vector>

#include "sift/core/block_formats.h"
#include "sift/core/half.h"
#include "tests/data/dequantise_golden.h"

namespace sift {
namespace {

void expect_golden(DType type, std::span<const std::uint8_t> block,
                   std::span<const std::uint32_t> expected) {
  ASSERT_EQ(block.size(), static_cast<std::size_t>(traits(type).block_bytes));
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(traits(type).block_values));
  std::vector<float> values(expected.size());
  dequantise(type, std::as_bytes(block).data(), traits(type).block_values, values.data());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    // Compared as numbers, because zero may carry either sign.
    EXPECT_EQ(values[i], std::bit_cast<float>(expected[i])) << traits(type).name << " " << i;
  }
}

TEST(Dequantise, EqualsGoldenBlocks) {
  using namespace golden;
  expect_golden(DType::q8_0, kQ80Block, kQ80Values);
  expect_golden(DType::q4_0, kQ40Block, kQ40Values);
  expect_golden(DType::q4_1, kQ41Block, kQ41Values);
  expect_golden(DType::q5_0, kQ50Block, kQ50Values);
  expect_golden(DType::q5_1, kQ51Block, kQ51Values);
  expect_golden(DType::q4_k, kQ4KBlock, kQ4KValues);
  expect_golden(DType::q5_k, kQ5KBlock, kQ5KValues);
  expect_golden(DType::q6_k, kQ6KBlock, kQ6KValues);
}

template <class Scalar>
void expect_scalars(DType type) {
  const float expected[3] = {0.5F, -3.0F, 1024.0F};  // exact in all three types
  Scalar stored[3];
  for (int i = 0; i < 3; ++i) stored[i] = static_cast<Scalar>(expected[i]);
  float values[3];
  dequantise(type, reinterpret_cast<const std::byte*>(stored), 3, values);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(values[i], expected[i]) << traits(type).name;
}

TEST(Dequantise, PlainTypes) {
  expect_scalars<float>(DType::f32);
  expect_scalars<Half>(DType::f16);
  expect_scalars<BFloat16>(DType::bf16);
}

TEST(Dequantise, HandWrittenQ4_1) {
  BlockQ4_1 blocks[2]{};
  blocks[1].d = static_cast<Half>(0.25F);
  blocks[1].m = static_cast<Half>(-1.0F);
  blocks[1].q[3] = 0x5f;  // value 3 is 15, value 19 is 5
  float values[64];
  dequantise(DType::q4_1, reinterpret_cast<const std::byte*>(blocks), 64, values);
  EXPECT_EQ(values[3], 0.0F);
  EXPECT_EQ(values[32 + 3], 0.25F * 15 - 1);
  EXPECT_EQ(values[32 + 19], 0.25F * 5 - 1);
  EXPECT_EQ(values[32 + 4], -1.0F);
}

TEST(Dequantise, TakesBlocksAtAnyAddress) {
  std::vector<std::byte> bytes(1 + sizeof(BlockQ8_0));
  BlockQ8_0 block{};
  block.d = static_cast<Half>(2.0F);
  block.q[31] = -7;
  std::memcpy(bytes.data() + 1, &block, sizeof(block));
  float values[32];
  dequantise(DType::q8_0, bytes.data() + 1, 32, values);
  EXPECT_EQ(values[31], -14.0F);
}

}  // namespace
}  // namespace sift
