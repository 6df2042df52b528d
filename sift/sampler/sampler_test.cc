#include "sift/sampler/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "sift/core/error.h"
#include "sift/sampler/random.h"

namespace sift {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f};

std::map<std::int32_t, int> draw(const SamplingOptions& options, int count) {
  const Sampler sampler(options, 0);
  std::map<std::int32_t, int> counts;
  for (int step = 0; step < count; ++step) {
    counts[sampler.sample(kLogits, {}, static_cast<std::uint64_t>(step), 0).token.id] += 1;
  }
  return counts;
}

// Known answers of Random123's kat_vectors for philox4x32 with 10 rounds.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint64_t ones = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(philox(ones, ones, ones),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Sampler, GreedyTakesTheLowestOfTies) {
  EXPECT_EQ(draw({}, 3), (std::map<std::int32_t, int>{{1, 3}}));
}

TEST(Sampler, TemperatureOneFollowsTheSoftmax) {
  SamplingOptions options;
  options.temperature = 1;
  options.seed = 7;
  const int draws = 40000;
  const auto counts = draw(options, draws);
  const double total = log_sum_exp(kLogits);
  for (std::size_t id = 0; id < kLogits.size(); ++id) {
    const double p = std::exp(kLogits[id] - total);
    const double deviation = std::sqrt(p * (1 - p) / draws);
    EXPECT_NEAR(counts.at(static_cast<std::int32_t>(id)) / static_cast<double>(draws), p,
                5 * deviation);
  }
}

TEST(Sampler, SameSeedSameTokensOtherSeedOthers) {
  SamplingOptions options;
  options.temperature = 1;
  std::vector<std::int32_t> first, again, other;
  for (std::uint64_t step = 0; step < 64; ++step) {
    first.push_back(Sampler(options, 3).sample(kLogits, {}, step, 0).token.id);
    again.push_back(Sampler(options, 3).sample(kLogits, {}, step, 0).token.id);
    other.push_back(Sampler(options, 4).sample(kLogits, {}, step, 0).token.id);
  }
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 2;
  for (const auto& [id, count] : draw(options, 500)) EXPECT_TRUE(id == 1 || id == 3);
  options.top_k = 0;
  options.top_p = 0.3;  // the best alone has .41
  EXPECT_EQ(draw(options, 200), (std::map<std::int32_t, int>{{1, 200}}));
  options.top_p = 1;
  options.min_p = 0.5;  // the third has e^-1 of the best
  for (const auto& [id, count] : draw(options, 500)) EXPECT_TRUE(id == 1 || id == 3);
}

TEST(Sampler, RepetitionPenaltyPushesSeenTokensDown) {
  SamplingOptions options;
  options.repetition_penalty = 2;
  const std::vector<std::int32_t> seen = {1, 1};
  EXPECT_EQ(Sampler(options, 0).sample(kLogits, seen, 0, 0).token.id, 3);
  const std::vector<float> negative = {-1.0f, -1.5f};
  EXPECT_EQ(Sampler(options, 0).sample(negative, std::vector<std::int32_t>{0}, 0, 0).token.id, 1);
}

TEST(Sampler, LogProbabilitiesAreThoseOfTheModel) {
  SamplingOptions options;
  options.repetition_penalty = 2;
  const auto sample = Sampler(options, 0).sample(kLogits, std::vector<std::int32_t>{1}, 0, 3);
  ASSERT_EQ(sample.top.size(), 3u);
  EXPECT_EQ(sample.top[0].id, 1);
  EXPECT_EQ(sample.top[1].id, 3);
  EXPECT_EQ(sample.top[2].id, 2);
  EXPECT_NEAR(sample.top[2].log_probability, 2 - log_sum_exp(kLogits), 1e-12);
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [](SamplingOptions options) { EXPECT_THROW(Sampler(options, 0), Error); };
  SamplingOptions options;
  for (const double value : {-1.0, nan, std::numeric_limits<double>::infinity()}) {
    options = {};
    options.temperature = value;
    refused(options);
  }
  for (const double value : {0.0, 1.5, nan}) {
    options = {};
    options.top_p = value;
    refused(options);
  }
  options = {};
  options.top_k = -1;
  refused(options);
  options = {};
  options.min_p = 1.01;
  refused(options);
  options = {};
  options.repetition_penalty = 0;
  refused(options);
}

}  // namespace
}  // namespace sift
