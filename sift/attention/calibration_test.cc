#include "sift/attention/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace sift {
namespace {

std::vector<std::int64_t> recorded_rows(std::int64_t warmup, std::int64_t prompt) {
  std::vector<std::int64_t> rows;
  for (std::int64_t s = 1; s <= prompt; ++s) {
    if (is_prefill_record(s, warmup)) rows.push_back(s);
  }
  return rows;
}

TEST(PrefillRecords, AreSpacedGeometrically) {
  EXPECT_THAT(recorded_rows(2, 70000), ::testing::ElementsAre(16, 1024, 65536));
  EXPECT_THAT(recorded_rows(7, 1000), ::testing::ElementsAre(16, 32, 64, 128, 256, 512));
  // 16 · 64^(j/5): 36.76, 84.45, 194.01, 445.72, 1024, 2352.5….
  EXPECT_THAT(recorded_rows(6, 2353), ::testing::ElementsAre(16, 37, 84, 194, 446, 1024, 2353));
}

TEST(PrefillRecords, EqualTheDefinition) {
  for (const std::int64_t warmup : {2, 3, 5, 64, 128, 512, 5000}) {
    std::set<std::int64_t> expected;
    for (std::int64_t j = 0;; ++j) {
      const double value = 16 * std::pow(64.0, double(j) / double(warmup - 1));
      if (std::llround(value) > 20000) break;
      expected.insert(std::llround(value));
    }
    EXPECT_EQ(recorded_rows(warmup, 20000),
              std::vector<std::int64_t>(expected.begin(), expected.end()))
        << warmup;
  }
  EXPECT_EQ(recorded_rows(64, 1024).size(), 64U);
  // The only j is not the one nearest to the logarithm of S.
  EXPECT_TRUE(is_prefill_record(46, 192));
  EXPECT_TRUE(is_prefill_record(128, 534));
}

TEST(PrefillRecords, TakeAnyNumbers) {
  for (const std::int64_t visible : {std::int64_t{0}, std::int64_t{-5}, std::int64_t{15}}) {
    EXPECT_FALSE(is_prefill_record(visible, 64));
  }
  EXPECT_TRUE(is_prefill_record(16, 1'000'000));
  EXPECT_TRUE(is_prefill_record(17, 1'000'000));
  EXPECT_TRUE(is_prefill_record(std::int64_t{1} << 58, 7));
  EXPECT_FALSE(is_prefill_record((std::int64_t{1} << 40) + 1, 7));
}

TEST(PrefillRecords, AreTheSameHoweverAPromptIsCut) {
  for (const std::int64_t warmup : {2, 3, 64, 128, 512, 5000, 1'000'000}) {
    const std::vector<std::int64_t> whole = recorded_rows(warmup, 3000);
    EXPECT_EQ(prefill_records(1, 3000, warmup), whole) << warmup;
    for (const std::int64_t chunk : {1, 7, 16, 512, 1000}) {
      std::vector<std::int64_t> pieces;
      for (std::int64_t first = 1; first <= 3000; first += chunk) {
        const std::int64_t last = std::min<std::int64_t>(first + chunk - 1, 3000);
        for (const std::int64_t row : prefill_records(first, last, warmup)) pieces.push_back(row);
      }
      EXPECT_EQ(pieces, whole) << warmup << " in chunks of " << chunk;
    }
  }
  EXPECT_EQ(prefill_records(262144, 262144, 2), std::vector<std::int64_t>());
  EXPECT_EQ(prefill_records(65536, 65536, 2), std::vector<std::int64_t>{65536});
}

}  // namespace
}  // namespace sift
