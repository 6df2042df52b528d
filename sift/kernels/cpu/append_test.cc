#include "sift/kernels/cpu/append.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "sift/cache/cache_rows.h"

namespace sift::cpu {
namespace {

std::vector<float> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(generator);
  // Ties, extremes, denormals and zeros.
  const float special[] = {1 + 0x1p-11F, 1 + 0x1p-8F, 65520, -7e4F, 1e-7F, 0x1p-149F, -0.0F, 1e38F};
  for (std::size_t i = 0; i < 8; ++i) values[i * 37 % values.size()] = special[i];
  return values;
}

class Append : public ::testing::TestWithParam<std::tuple<DType, int>> {};
INSTANTIATE_TEST_SUITE_P(All, Append,
                         ::testing::Combine(::testing::Values(DType::f32, DType::f16, DType::bf16,
                                                              DType::q8_0),
                                            ::testing::Values(32, 64, 256)));
INSTANTIATE_TEST_SUITE_P(OddDimensions, Append,
                         ::testing::Combine(::testing::Values(DType::f32, DType::f16, DType::bf16),
                                            ::testing::Values(1, 20, 83)));

TEST_P(Append, EqualsThePlainDefinition) {
  const auto [type, dim] = GetParam();
  const CacheLayout layout{2, 3, dim, type};
  KvCache cache(layout, 256);
  std::vector<std::int32_t> pages;
  cache.allocate_pages(4, pages);
  const CacheView view = cache.view(1, pages);
  AttentionState state(Policy{}, {2, 6, 3, dim});
  const std::int64_t count = 90;
  const std::vector<float> keys = random_values(count * 3 * dim, 1);
  const std::vector<float> values = random_values(count * 3 * dim, 2);
  append_rows(view, state, 1, 50, count, keys.data(), values.data());

  std::vector<std::byte> expected(layout.row_bytes());
  std::vector<double> sums(static_cast<std::size_t>(3 * dim), 0.0);
  std::vector<float> back(static_cast<std::size_t>(dim));
  for (std::int64_t row = 0; row < count; ++row) {
    for (int head = 0; head < 3; ++head) {
      const std::int64_t offset = (row * 3 + head) * dim;
      write_cache_row(type, keys.data() + offset, dim, expected.data());
      EXPECT_EQ(std::memcmp(view.key_row(head, 50 + row), expected.data(), expected.size()), 0);
      write_cache_row(type, values.data() + offset, dim, expected.data());
      EXPECT_EQ(std::memcmp(view.value_row(head, 50 + row), expected.data(), expected.size()), 0);
      read_cache_row(type, expected.data(), dim, back.data());
      for (int d = 0; d < dim; ++d) sums[head * dim + d] += static_cast<double>(back[d]);
    }
  }
  for (int head = 0; head < 3; ++head) {
    for (int d = 0; d < dim; ++d) {
      const double sum = state.value_sum(1, head)[d];
      const double expected_sum = sums[static_cast<std::size_t>(head) * dim + d];
      EXPECT_TRUE(std::bit_cast<std::uint64_t>(sum) == std::bit_cast<std::uint64_t>(expected_sum) ||
                  (std::isnan(sum) && std::isnan(expected_sum)));
      EXPECT_EQ(state.value_sum(0, head)[d], 0);
    }
  }
}

TEST(AppendSidecars, EqualThePlainDefinition) {
  for (const char* text : {"sift:estimate=quantised", "sift:estimate=quantised,bits=fp8",
                           "sift:estimate=quantised,bits=3,block=16"}) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
      const Policy policy = parse_policy(text);
      const CacheLayout layout{
          1, 2, 64, type, sidecar_bytes(policy, 64), ShadowOrder::pairs_parted};
      KvCache cache(layout, 128);
      std::vector<std::int32_t> pages;
      cache.allocate_pages(2, pages);
      const CacheView view = cache.view(0, pages);
      AttentionState state(policy, {1, 4, 2, 64});
      const std::vector<float> rows = random_values(40 * 2 * 64, 3);
      append_rows(view, state, 0, 50, 40, rows.data(), rows.data());
      std::vector<float> key(64);
      std::vector<std::byte> expected(layout.sidecars[Sidecar::key_shadow]);
      for (std::int64_t slot = 50; slot < 90; ++slot) {
        for (int head = 0; head < 2; ++head) {
          // Of the key as the cache holds it, not as it came.
          read_cache_row(type, view.key_row(head, slot), 64, key.data());
          write_key_shadow(key_shadow_format(policy, layout.shadow_order), key.data(), 64,
                           expected.data());
          EXPECT_EQ(std::memcmp(view.sidecar_row(Sidecar::key_shadow, head, slot), expected.data(),
                                expected.size()),
                    0)
              << text << ", slot " << slot;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sift::cpu
