#include "sift/eval/attention_speed.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "sift/core/error.h"

namespace sift {
namespace {

AttentionSpeedOptions small(const std::string& policy, BackendKind backend = BackendKind::cpu) {
  AttentionSpeedOptions options;
  options.backend = backend;
  options.policy = parse_policy(policy);
  options.batch = 2;
  options.context = 1024;
  options.repeat = 6;
  options.threads = 2;
  return options;
}

// K and V of both sequences: 3 KV heads of 64 f16 values.
constexpr double kDenseBytes = 2.0 * 2 * 1024 * 3 * 64 * 2;

TEST(AttentionSpeed, CountsTheBytesThatHadToBeRead) {
  const AttentionSpeed full = attention_speed(small("full"));
  EXPECT_EQ(full.bytes, kDenseBytes);
  EXPECT_EQ(full.dense_bytes, kDenseBytes);
  for (const double tau : {0.5, 0.875}) {
    const AttentionSpeed sifted = attention_speed(small("sift:paper,tau=" + std::to_string(tau)));
    const AttentionStatistics s = sifted.attention.summary();
    EXPECT_NEAR(*s.realised_sparsity_after_warmup, tau, 0.01);  // as it was calibrated here
    EXPECT_NEAR(sifted.bytes, kDenseBytes * (0.5 + 0.5 * *s.union_density), 1);
    EXPECT_EQ(sifted.dense_bytes, kDenseBytes);
    EXPECT_EQ(s.dense_steps, 2 * 2);  // the two that calibrate, of either sequence
  }
  const AttentionSpeed largest = attention_speed(small("topk:keep=0.25"));
  EXPECT_NEAR(*largest.attention.summary().realised_sparsity_after_warmup, 0.75, 1e-9);
}

TEST(AttentionSpeed, ReadsShadowsInPlaceOfKeys) {
  const AttentionSpeed speed = attention_speed(small("sift:estimate=quantised,gate=off"));
  const AttentionStatistics s = speed.attention.summary();
  EXPECT_GT(*s.candidate_density, 0);
  EXPECT_LT(speed.bytes, kDenseBytes * (0.5 + 0.5 * *s.union_density));
}

TEST(AttentionSpeed, GoesThroughAsManyCopiesAsTheBytesNeed) {
  AttentionSpeedOptions options = small("sift:paper");
  EXPECT_EQ(attention_speed(options).copies, 1);
  options.rotated_bytes = static_cast<std::int64_t>(3 * kDenseBytes) + 1;
  const AttentionSpeed speed = attention_speed(options);
  EXPECT_EQ(speed.copies, 4);
  EXPECT_EQ(speed.attention.summary().sparse_steps, 2 * 6);
}

TEST(AttentionSpeed, TimesEveryTermOfThePapersAnalysis) {
  const AttentionSpeed speed = attention_speed(small("sift:paper"));
  std::set<std::string> names;
  for (const TermSpeed& term : speed.terms) {
    names.insert(term.name);
    EXPECT_GT(term.seconds, 0);
  }
  EXPECT_EQ(names, (std::set<std::string>{"project_all", "project_surviving", "threshold", "top_k",
                                          "quantile", "fit"}));
  EXPECT_GT(speed.seconds, 0);
  EXPECT_LE(speed.least_seconds, speed.seconds);
  EXPECT_GE(speed.most_seconds, speed.seconds);
}

TEST(AttentionSpeed, RunsOnTheReference) {
  AttentionSpeedOptions options = small("sift:paper", BackendKind::reference);
  options.context = 200;
  options.repeat = 2;
  const AttentionSpeed speed = attention_speed(options);
  EXPECT_NEAR(*speed.attention.summary().realised_sparsity_after_warmup, 0.875, 0.02);
  EXPECT_TRUE(speed.terms.empty());
}

TEST(AttentionSpeed, StopsAndRefuses) {
  EXPECT_EQ(attention_speed(small("full"), [](std::int64_t, std::int64_t) { return false; }).copies,
            0);
  AttentionSpeedOptions options = small("full");
  options.heads = 10;  // three KV heads
  EXPECT_THROW(attention_speed(options), Error);
  options = small("full");
  options.type = DType::q8_0;
  options.head_dim = 48;
  EXPECT_THROW(attention_speed(options), Error);
  EXPECT_THROW(attention_speed(small("sift:estimate=quantised,bits=3")), Error);
  EXPECT_THROW(attention_speed(small("h2o:keep=0.25")), Error);
}

TEST(AttentionSpeed, KnowsTheLastLevelCache) { EXPECT_GE(last_level_cache_bytes(), 1 << 20); }

}  // namespace
}  // namespace sift
