#include "sift/core/quantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "sift/core/dequantise.h"

namespace sift {
namespace {

struct Case {
  DType type;
  float tolerance;  // of values within ±1: half a step, plus what rounding the scales costs
};

class QuantiseTest : public testing::TestWithParam<Case> {};

TEST_P(QuantiseTest, ValuesComeBack) {
  const auto [type, tolerance] = GetParam();
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  std::vector<float> values(1024);
  for (float& value : values) value = uniform(random);
  std::vector<std::byte> stored(row_bytes(type, 1024));
  quantise(type, values.data(), 1024, stored.data());
  std::vector<float> back(1024);
  dequantise(type, stored.data(), 1024, back.data());
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(back[i], values[i], tolerance) << i;
}

TEST_P(QuantiseTest, ZerosStayZeros) {
  const DType type = GetParam().type;
  const std::vector<float> values(256);
  std::vector<std::byte> stored(row_bytes(type, 256));
  quantise(type, values.data(), 256, stored.data());
  std::vector<float> back(256, 1.0F);
  dequantise(type, stored.data(), 256, back.data());
  for (const float value : back) ASSERT_EQ(value, 0.0F);
}

INSTANTIATE_TEST_SUITE_P(
    AllTypes, QuantiseTest,
    testing::Values(Case{DType::f32, 0.0F}, Case{DType::f16, 0.0005F}, Case{DType::bf16, 0.004F},
                    Case{DType::q8_0, 0.0045F}, Case{DType::q4_0, 0.13F}, Case{DType::q4_1, 0.07F},
                    Case{DType::q5_0, 0.065F}, Case{DType::q5_1, 0.035F}, Case{DType::q4_k, 0.1F},
                    Case{DType::q5_k, 0.06F}, Case{DType::q6_k, 0.04F}),
    [](const auto& instance) { return std::string(traits(instance.param.type).name); });

}  // namespace
}  // namespace sift
