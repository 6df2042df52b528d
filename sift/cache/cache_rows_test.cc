#include "sift/cache/cache_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "sift/core/half.h"

namespace sift {
namespace {

std::vector<std::byte> written(DType type, const std::vector<float>& values) {
  const int count = static_cast<int>(values.size());
  std::vector<std::byte> row(row_bytes(type, count));
  write_cache_row(type, values.data(), count, row.data());
  return row;
}

std::vector<float> round_trip(DType type, const std::vector<float>& values) {
  const std::vector<std::byte> row = written(type, values);
  std::vector<float> back(values.size());
  read_cache_row(type, row.data(), static_cast<int>(values.size()), back.data());
  return back;
}

std::vector<float> random_values(int count, float scale) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

TEST(CacheRows, FloatsComeBackExactly) {
  const std::vector<float> values = random_values(96, 3);
  EXPECT_EQ(round_trip(DType::f32, values), values);
}

TEST(CacheRows, HalvesRoundToNearestEven) {
  // 1 + 2^-11 is halfway between 1 and 1 + 2^-10; 1 + 3 · 2^-11 between two, the upper even.
  const std::vector<float> back =
      round_trip(DType::f16, {1 + 0x1p-11F, 1 + 3 * 0x1p-11F, 65504, 70000, -0x1p-24F});
  EXPECT_EQ(back, (std::vector<float>{1, 1 + 0x1p-9F, 65504, std::numeric_limits<float>::infinity(),
                                      -0x1p-24F}));
}

TEST(CacheRows, BFloatsRoundToNearestEven) {
  const std::vector<float> back =
      round_trip(DType::bf16, {1 + 0x1p-8F, 1 + 3 * 0x1p-8F, -1e30F, 0});
  EXPECT_EQ(back[0], 1);
  EXPECT_EQ(back[1], 1 + 0x1p-6F);
  EXPECT_NEAR(back[2], -1e30F, 1e30F / 256);
  EXPECT_EQ(back[3], 0);
}

TEST(CacheRows, Q8BlocksShareTheScaleOfTheirHighest) {
  std::vector<float> values = random_values(64, 1);
  values[5] = -127 * 0x1p-5F;  // beyond the others, so d = 2^-5 exactly
  values[40] = 127 * 0x1p-4F;
  const std::vector<float> back = round_trip(DType::q8_0, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float scale = i < 32 ? 0x1p-5F : 0x1p-4F;
    EXPECT_EQ(back[i], std::nearbyint(values[i] / scale) * scale) << i;
  }
}

TEST(CacheRows, Q8ErrorIsHalfAStep) {
  const std::vector<float> values = random_values(256, 2);
  const std::vector<float> back = round_trip(DType::q8_0, values);
  for (std::size_t block = 0; block < values.size(); block += 32) {
    float highest = 0;
    for (std::size_t i = block; i < block + 32; ++i)
      highest = std::max(highest, std::fabs(values[i]));
    for (std::size_t i = block; i < block + 32; ++i) {
      EXPECT_NEAR(back[i], values[i], highest * (0.5F / 127 + 0x1p-11F)) << i;
    }
  }
}

TEST(CacheRows, Q8OfZeroAndOfTinyValuesIsZero) {
  EXPECT_EQ(round_trip(DType::q8_0, std::vector<float>(32, 0.0F)), std::vector<float>(32, 0.0F));
  EXPECT_EQ(round_trip(DType::q8_0, std::vector<float>(32, 1e-40F)), std::vector<float>(32, 0.0F));
}

TEST(CacheRows, ValuesThatAreNotFiniteStayVisible) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
    for (const float bad : {infinity, -infinity, nan}) {
      std::vector<float> values = random_values(32, 1);
      values[31] = bad;
      EXPECT_FALSE(std::isfinite(round_trip(type, values)[31])) << traits(type).name << ' ' << bad;
    }
  }
}

}  // namespace
}  // namespace sift
