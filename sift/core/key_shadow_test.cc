#include "sift/core/key_shadow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "sift/core/error.h"
#include "sift/core/half.h"

namespace sift {
namespace {

using Key = std::vector<float>;
using Bytes = std::vector<std::byte>;

std::vector<KeyShadowFormat> all_formats() {
  std::vector<KeyShadowFormat> formats = {{ShadowCode::fp8, 32}};
  for (const ShadowCode code : {ShadowCode::bits4, ShadowCode::bits3, ShadowCode::bits2}) {
    for (const std::int64_t block : {16, 32, 64}) formats.push_back({code, block});
  }
  return formats;
}

Bytes written(const KeyShadowFormat& format, const Key& key) {
  const int dim = static_cast<int>(key.size());
  Bytes shadow(key_shadow_row_bytes(format, dim) + 4, std::byte{0xa5});
  write_key_shadow(format, key.data(), dim, shadow.data());
  for (std::size_t i = shadow.size() - 4; i < shadow.size(); ++i) {
    EXPECT_EQ(shadow[i], std::byte{0xa5}) << "written behind the shadow";
  }
  shadow.resize(shadow.size() - 4);
  return shadow;
}

Key shadow_of(const KeyShadowFormat& format, const Key& key) {
  const Bytes shadow = written(format, key);
  Key back(key.size());
  read_key_shadow(format, shadow.data(), static_cast<int>(key.size()), back.data());
  return back;
}

Key random_key(int dim, float deviation, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.25F * deviation, deviation);
  Key key(static_cast<std::size_t>(dim));
  for (float& value : key) value = normal(generator);
  return key;
}

TEST(KeyShadow, TakesTheBytesThatItSays) {
  const auto bytes = [](ShadowCode code, std::int64_t block, int dim) {
    return key_shadow_row_bytes({code, block}, dim);
  };
  EXPECT_EQ(bytes(ShadowCode::bits4, 32, 64), 40U);
  EXPECT_EQ(bytes(ShadowCode::bits4, 64, 64), 36U);
  EXPECT_EQ(bytes(ShadowCode::bits3, 16, 64), 40U);
  EXPECT_EQ(bytes(ShadowCode::bits2, 16, 64), 32U);
  EXPECT_EQ(bytes(ShadowCode::fp8, 32, 64), 68U);
  EXPECT_EQ(bytes(ShadowCode::bits4, 32, 128), 80U);
  EXPECT_EQ(bytes(ShadowCode::fp8, 64, 96), 100U);
}

TEST(KeyShadow, RefusesHeadDimensionsThatBlocksDoNotFill) {
  for (const int dim : {0, -32, 16, 48, 63}) {
    EXPECT_THROW(key_shadow_row_bytes({ShadowCode::bits4, 16}, dim), Error) << dim;
    EXPECT_THROW(key_shadow_row_bytes({ShadowCode::fp8, 32}, dim), Error) << dim;
  }
  EXPECT_THROW(key_shadow_row_bytes({ShadowCode::bits4, 64}, 96), Error);
}

// 32 values 0, 1, … 15, 0, 1, … are their own codes: scale 1, zero 0.
TEST(KeyShadow, PacksFourBitsLowHalfFirst) {
  Key key(32);
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<float>(i % 16);
  const Bytes shadow = written({ShadowCode::bits4, 32}, key);
  for (std::size_t j = 0; j < 16; ++j) {
    EXPECT_EQ(std::to_integer<unsigned>(shadow[j]), (2 * j) % 16 | (2 * j + 1) % 16 << 4);
  }
  Half scale_and_zero[2];
  std::memcpy(scale_and_zero, shadow.data() + 16, 4);
  EXPECT_EQ(scale_and_zero[0], Half{1});
  EXPECT_EQ(scale_and_zero[1], Half{0});
}

TEST(KeyShadow, PacksThreeAndTwoBitsLowestFirst) {
  Key key(32);
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<float>(i % 8);
  const Bytes three = written({ShadowCode::bits3, 32}, key);
  // 0 1 2 3 4 5 6 7 in 3 bits each, the first one lowest.
  const std::uint32_t codes = 076543210;
  EXPECT_EQ(std::memcmp(three.data(), &codes, 3), 0);
  EXPECT_EQ(std::memcmp(three.data() + 3, &codes, 3), 0);
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<float>(i % 4);
  const Bytes two = written({ShadowCode::bits2, 32}, key);
  EXPECT_EQ(std::to_integer<unsigned>(two[0]), 0b11100100U);
}

TEST(KeyShadow, StaysWithinHalfAStep) {
  for (const KeyShadowFormat& format : all_formats()) {
    if (format.code == ShadowCode::fp8) continue;
    const auto levels = static_cast<float>((1 << code_bits(format.code)) - 1);
    for (const float deviation : {1e-3F, 1.0F, 300.0F}) {
      const Key key = random_key(192, deviation, 7);
      const Key back = shadow_of(format, key);
      for (std::size_t first = 0; first < key.size(); first += format.block) {
        const auto [least, greatest] =
            std::minmax_element(key.begin() + first, key.begin() + first + format.block);
        // Half a step, and what the scale and the zero lose as halves.
        const float bound = 0.5F * (*greatest - *least) / levels + 2e-3F * deviation;
        for (std::size_t i = first; i < first + format.block; ++i) {
          EXPECT_NEAR(back[i], key[i], bound) << "value " << i;
        }
      }
    }
  }
}

TEST(KeyShadow, KeepsWhatItCanHoldExactly) {
  for (const KeyShadowFormat& format : all_formats()) {
    for (const float value : {0.0F, -0.0F, 1.5F, -224.0F}) {
      const Key key(64, value);
      EXPECT_EQ(shadow_of(format, key), key) << value;
    }
  }
}

TEST(KeyShadow, DoesNotDependOnTheSignsOfZeros) {
  for (const KeyShadowFormat& format : all_formats()) {
    if (format.code == ShadowCode::fp8) continue;  // its codes keep signs
    Key key(64, 0.0F);
    const Bytes expected = written(format, key);
    for (const std::size_t place : {0, 15, 63}) {
      key[place] = -0.0F;
      EXPECT_EQ(written(format, key), expected) << place;
    }
  }
}

TEST(KeyShadow, PartsPairsOfNeighbours) {
  for (KeyShadowFormat format : all_formats()) {
    const Key key = random_key(128, 1, 5);
    Key parted(key.size());
    for (std::size_t i = 0; i < key.size() / 2; ++i) {
      parted[i] = key[2 * i];
      parted[i + key.size() / 2] = key[2 * i + 1];
    }
    const Bytes expected = written(format, parted);
    const Key expected_back = shadow_of(format, parted);
    format.order = ShadowOrder::pairs_parted;
    EXPECT_EQ(written(format, key), expected);
    const Key back = shadow_of(format, key);
    for (std::size_t i = 0; i < key.size() / 2; ++i) {
      EXPECT_EQ(back[2 * i], expected_back[i]);
      EXPECT_EQ(back[2 * i + 1], expected_back[i + key.size() / 2]);
    }
  }
}

TEST(KeyShadow, SaturatesBeyondHalves) {
  for (const KeyShadowFormat& format : all_formats()) {
    Key key = random_key(64, 1, 3);
    key[5] = 3e38F;
    key[9] = -3e38F;
    for (const float value : shadow_of(format, key)) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(KeyShadow, ValuesThatAreNotFiniteReadBackAsNaN) {
  for (const KeyShadowFormat& format : all_formats()) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      Key key = random_key(128, 1, 4);
      key[70] = bad;
      const Key back = shadow_of(format, key);
      const std::int64_t block = format.code == ShadowCode::fp8 ? 128 : format.block;
      for (std::int64_t i = 0; i < 128; ++i) {
        EXPECT_EQ(std::isnan(back[i]), i / block == 70 / block) << "value " << i;
      }
    }
  }
}

// The numbers that e4m3 can hold, ascending.
std::vector<float> e4m3_numbers() {
  std::vector<float> numbers;
  for (int code = 0; code < 127; ++code) {
    const int exponent = code >> 3;
    const auto mantissa = static_cast<float>(code & 7);
    numbers.push_back(exponent == 0 ? std::ldexp(mantissa, -9)
                                    : std::ldexp(8 + mantissa, exponent - 10));
  }
  return numbers;
}

TEST(KeyShadow, HoldsEveryNumberOfE4m3) {
  const KeyShadowFormat format{ShadowCode::fp8};
  for (const float number : e4m3_numbers()) {
    Key key(32, 0.0F);
    key[0] = 448;  // so that the scale is 1
    key[1] = number;
    key[2] = -number;
    EXPECT_EQ(shadow_of(format, key), key) << number;
  }
}

TEST(KeyShadow, RoundsToTheNearestNumberOfE4m3TiesToEven) {
  const KeyShadowFormat format{ShadowCode::fp8};
  const std::vector<float> numbers = e4m3_numbers();
  for (std::size_t code = 0; code + 1 < numbers.size(); ++code) {
    const float middle = (numbers[code] + numbers[code + 1]) / 2;
    Key key(32, 0.0F);
    key[0] = 448;
    key[1] = middle;
    key[2] = std::nextafter(middle, 0.0F);
    key[3] = std::nextafter(middle, 448.0F);
    const Key back = shadow_of(format, key);
    EXPECT_EQ(back[1], numbers[code % 2 == 0 ? code : code + 1]);
    EXPECT_EQ(back[2], numbers[code]);
    EXPECT_EQ(back[3], numbers[code + 1]);
  }
}

TEST(KeyShadow, ScalesEightBitsByTheGreatestValue) {
  const Key key = random_key(128, 3, 11);
  const Key back = shadow_of({ShadowCode::fp8}, key);
  float greatest = 0;
  for (const float value : key) greatest = std::max(greatest, std::fabs(value));
  for (std::size_t i = 0; i < key.size(); ++i) {
    // Half of the last of 4 significant bits, or of the smallest step.
    const float bound = std::max(std::fabs(key[i]) / 16, greatest / 448 * 0x1p-10F);
    EXPECT_NEAR(back[i], key[i], bound * 1.0001F);
  }
}

}  // namespace
}  // namespace sift
