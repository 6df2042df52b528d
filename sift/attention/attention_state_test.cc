#include "sift/attention/attention_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "sift/core/error.h"
#include "sift/sifting/quantile.h"

namespace sift {
namespace {

using ::testing::HasSubstr;

const AttentionShape kShape = {.layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8};

AttentionState state_of(std::string_view policy, std::int64_t prompt,
                        const AttentionShape& shape = kShape) {
  AttentionState state(parse_policy(policy), shape);
  state.begin_prompt(prompt);
  return state;
}

TEST(AttentionState, RefusesImpossibleShapes) {
  for (const AttentionShape& shape : {AttentionShape{0, 4, 2, 8}, AttentionShape{1, 3, 2, 8},
                                      AttentionShape{1, 4, 0, 8}, AttentionShape{1, 4, 2, -1}}) {
    EXPECT_THROW(AttentionState(Policy{}, shape), Error);
  }
  const Policy quantised = parse_policy("sift:estimate=quantised,block=64");
  EXPECT_THROW(AttentionState(quantised, {1, 4, 2, 96}), Error);
}

TEST(AttentionState, FullIsDense) {
  const AttentionState state = state_of("full", 100);
  EXPECT_EQ(state.mode({16, 0}), RowMode::dense);
  EXPECT_EQ(state.mode({101, 1}), RowMode::dense);
  EXPECT_EQ(state.notice(), "");
}

TEST(AttentionState, DecodeCalibrationRecordsTheFirstRows) {
  const AttentionState state = state_of("sift:paper,warmup=3", 100);
  EXPECT_EQ(state.mode({16, 0}), RowMode::dense);
  EXPECT_EQ(state.mode({100, 0}), RowMode::dense);
  EXPECT_EQ(state.mode({101, 1}), RowMode::record);
  EXPECT_EQ(state.mode({103, 3}), RowMode::record);
  EXPECT_EQ(state.mode({104, 4}), RowMode::sift);
}

TEST(AttentionState, PrefillCalibrationRecordsPromptRows) {
  const AttentionState state = state_of("sift:warmup=7", 200);
  EXPECT_EQ(state.mode({15, 0}), RowMode::dense);
  EXPECT_EQ(state.mode({16, 0}), RowMode::record);
  EXPECT_EQ(state.mode({17, 0}), RowMode::dense);
  EXPECT_EQ(state.mode({128, 0}), RowMode::record);
  EXPECT_EQ(state.mode({201, 1}), RowMode::sift);
  EXPECT_EQ(state.mode({256, 0}), RowMode::dense);  // a later turn's prompt
  EXPECT_EQ(state.notice(), "");
}

TEST(AttentionState, ShortPromptsCalibrateWhileDecoding) {
  for (const std::int64_t prompt : {0, 63}) {
    const AttentionState state = state_of("sift:warmup=7", prompt);
    EXPECT_THAT(state.notice(), HasSubstr("calibrate=decode"));
    EXPECT_THAT(state.notice(), HasSubstr("has " + std::to_string(prompt)));
    EXPECT_EQ(state.mode({16, 0}), RowMode::dense);
    EXPECT_EQ(state.mode({prompt + 7, 7}), RowMode::record);
    EXPECT_EQ(state.mode({prompt + 8, 8}), RowMode::sift);
  }
  EXPECT_EQ(state_of("sift", 64).notice(), "");
  EXPECT_EQ(state_of("sift:paper", 3).notice(), "");
}

TEST(AttentionState, DenseRowsHoldSiftingBackOnly) {
  const AttentionState state = state_of("sift:paper,warmup=3,dense_rows=10", 4);
  EXPECT_EQ(state.mode({5, 1}), RowMode::record);
  EXPECT_EQ(state.mode({8, 4}), RowMode::dense);
  EXPECT_EQ(state.mode({10, 6}), RowMode::dense);
  EXPECT_EQ(state.mode({11, 7}), RowMode::sift);
}

TEST(AttentionState, LargestKeysNeedNoCalibration) {
  const AttentionState state = state_of("topk:keep=0.25,sink=2,recent=3", 100);
  EXPECT_EQ(state.mode({50, 0}), RowMode::dense);
  EXPECT_EQ(state.mode({101, 1}), RowMode::sift);
  EXPECT_EQ(state.ranked_keys(100), 20);  // of 25, five are forced
  EXPECT_EQ(state.ranked_keys(101), 21);  // of ⌈25.25⌉
  EXPECT_EQ(state.ranked_keys(16), 0);
  EXPECT_EQ(state_of("topk:keep=0.05", 0).ranked_keys(2000), 100);  // 0.05 · 2000 is a bit more
  EXPECT_EQ(state_of("topk:keep=1", 0).ranked_keys(7), 7);
  EXPECT_EQ(state_of("topk:keep=0.001", 0).ranked_keys(7), 1);
}

TEST(AttentionState, EvictionNeedsNoCalibration) {
  for (const char* text : {"h2o:dense_rows=102", "window:dense_rows=102"}) {
    const AttentionState state = state_of(text, 100);
    EXPECT_EQ(state.mode({50, 0}), RowMode::dense);
    EXPECT_EQ(state.mode({102, 2}), RowMode::dense);
    EXPECT_EQ(state.mode({103, 3}), RowMode::sift);
    EXPECT_EQ(state.notice(), "");
  }
}

// Keys that are gone are not read, and nobody knows what mass they would have had.
TEST(AttentionState, EvictedRowsAreNotRead) {
  AttentionState state = state_of("h2o:budget=10", 0);
  state.observe_head(0, 0, {40, 40}, {.kept = 11});
  state.observe_group(0, 0, {40, 40}, GroupFacts{.union_rows = 11});
  const AttentionStatistics statistics = state.totals(2).summary();
  EXPECT_EQ(*statistics.realised_sparsity, 1 - 11.0 / 40);
  EXPECT_EQ(*statistics.union_density, 11.0 / 40);
  EXPECT_FALSE(statistics.kept_mass.has_value());
  EXPECT_EQ(statistics.k_bytes_read, 22);
  EXPECT_EQ(statistics.v_bytes_read, 22);
  EXPECT_EQ(statistics.k_bytes_dense, 80);
  AttentionTotals sum;
  sum += state.totals(2);
  EXPECT_FALSE(sum.summary().kept_mass.has_value());
}

TEST(AttentionState, RefusesCompositionsThatCannotBe) {
  Policy policy = parse_policy("h2o");
  policy.compensate = Compensate::mean;
  EXPECT_THROW(AttentionState(policy, AttentionShape{1, 2, 1, 32}), Error);
}

TEST(AttentionState, FitsEachHeadOnItsOwn) {
  AttentionState state = state_of("sift:paper,warmup=2", 0);
  state.record(0, 0, {1, 1}, 0);
  state.record(0, 0, {2, 2}, -std::log(2.0));
  state.record(1, 3, {1, 1}, 0);
  state.record(1, 3, {2, 2}, -2 * std::log(2.0));
  EXPECT_NEAR(state.ln_threshold(0, 0, {8, 3}), -std::log(8.0), 1e-12);
  EXPECT_NEAR(state.ln_threshold(1, 3, {8, 3}), -std::log(64.0), 1e-12);
  EXPECT_EQ(state.ln_threshold(0, 1, {8, 3}), 0);  // no records: degenerate
  EXPECT_TRUE(state.head_state(0, 0).fitted);
  EXPECT_FALSE(state.head_state(0, 2).fitted);
  EXPECT_EQ(state.totals(0).degenerate_fits, 1);
  EXPECT_EQ(state.totals(0).ill_determined, 0);
}

TEST(AttentionState, CountsEligibleKeys) {
  const AttentionState state = state_of("sift:sink=4,recent=8", 0);
  EXPECT_EQ(state.eligible_keys(100), 88);
  EXPECT_EQ(state.eligible_keys(12), 0);
  EXPECT_EQ(state.eligible_keys(5), 0);
  for (const std::int64_t visible : {1, 5, 12, 13, 100}) {
    std::int64_t eligible = 0;
    for (std::int64_t i = 0; i < visible; ++i) eligible += state.is_forced(i, visible) ? 0 : 1;
    EXPECT_EQ(state.eligible_keys(visible), eligible) << visible;
  }
}

TEST(AttentionState, AdaptFollowsItsFormula) {
  AttentionState state = state_of("sift:paper,tau=0.75,adapt=0.1,sink=2,recent=1", 0);
  // 30 of 100 eligible keys kept, 25 intended.
  state.observe_head(0, 1, {103, 129}, {.kept = 33, .kept_eligible = 30, .kept_mass = 0.9});
  double expected = 0.1 * std::log((30.5 / 101) / 0.25);
  EXPECT_NEAR(state.head_state(0, 1).correction, expected, 1e-15);
  EXPECT_EQ(state.head_state(0, 0).correction, 0);
  EXPECT_EQ(state.head_state(1, 1).correction, 0);
  // None kept: ln((0.5 / 101) / 0.25) is under −2.
  state.observe_head(0, 1, {103, 130}, {.kept = 3, .kept_eligible = 0, .kept_mass = 0.1});
  expected -= 0.2;
  EXPECT_NEAR(state.head_state(0, 1).correction, expected, 1e-15);
  // All forced: nothing to learn.
  state.observe_head(0, 1, {3, 131}, {.kept = 3, .kept_eligible = 0, .kept_mass = 1});
  EXPECT_NEAR(state.head_state(0, 1).correction, expected, 1e-15);
  EXPECT_NEAR(state.ln_threshold(0, 1, {50, 132}), expected, 1e-15);
  // A union tells nothing when heads are the target.
  state.observe_group(0, 0, {103, 129}, {103, 100});
  EXPECT_NEAR(state.head_state(0, 1).correction, expected, 1e-15);
}

TEST(AttentionState, AdaptIsBounded) {
  AttentionState state = state_of("sift:paper,tau=0.999,adapt=1", 0);
  for (int step = 0; step < 10; ++step) {
    state.observe_head(0, 0, {100, 129}, {.kept = 100, .kept_eligible = 100, .kept_mass = 1});
    state.observe_head(0, 1, {100000, 129}, {.kept = 0, .kept_eligible = 0, .kept_mass = 0});
    EXPECT_EQ(state.head_state(0, 0).correction, std::min(2 * (step + 1), 4));
    EXPECT_EQ(state.head_state(0, 1).correction, -std::min(2 * (step + 1), 4));
  }
}

TEST(AttentionState, GroupTargetMovesTheGroup) {
  AttentionState state = state_of("sift:paper,tau=0.75,adapt=0.1,adapt_target=group", 0);
  state.observe_head(0, 2, {100, 129}, {.kept = 100, .kept_eligible = 100, .kept_mass = 1});
  EXPECT_EQ(state.head_state(0, 2).correction, 0);
  state.observe_group(0, 1, {100, 129}, {40, 40});
  const double expected = 0.1 * std::log((40.5 / 101) / 0.25);
  EXPECT_EQ(state.head_state(0, 1).correction, 0);
  EXPECT_NEAR(state.head_state(0, 2).correction, expected, 1e-15);
  EXPECT_NEAR(state.head_state(0, 3).correction, expected, 1e-15);
  EXPECT_EQ(state.head_state(1, 2).correction, 0);
}

// Two warm-up rows (S = 11, 12), two sifted rows (13, 14) and one that the gate sent dense (15).
AttentionState ran_five_rows() {
  AttentionState state = state_of("sift:paper,warmup=2", 10);
  for (int layer = 0; layer < kShape.layers; ++layer) {
    state.observe_dense(layer, {11, 1});
    state.observe_dense(layer, {12, 2});
    for (const RowIdentity row : {RowIdentity{13, 3}, RowIdentity{14, 4}}) {
      for (int head = 0; head < kShape.heads; ++head) {
        const bool none = layer == 1 && head == 3;
        const std::int64_t kept = none ? 0 : row.visible == 13 ? 2 : 7;
        state.observe_head(layer, head, row, {kept, kept, none ? 0.0 : 0.5, none});
      }
      state.observe_group(layer, 0, row, {8, 8});
      state.observe_group(layer, 1, row, {4, 4});
    }
    state.observe_dense(layer, {15, 5});
  }
  return state;
}

TEST(AttentionStatistics, EqualsHandComputation) {
  const AttentionStatistics s = ran_five_rows().totals(16).summary();
  // 8 (layer, head); one of them kept nothing. Pruned over the two sifted rows:
  const double pruned = (7 * (11.0 / 13 + 7.0 / 14) + 2) / 8;
  EXPECT_NEAR(*s.realised_sparsity, pruned / 5, 1e-12);
  EXPECT_NEAR(*s.realised_sparsity_after_warmup, pruned / 3, 1e-12);
  EXPECT_NEAR(*s.kept_mass, (7 * (0.5 + 0.5) / 8 + 1) / 3, 1e-12);
  EXPECT_NEAR(*s.union_density, (6.0 / 13 + 6.0 / 14 + 1) / 3, 1e-12);
  EXPECT_EQ(s.v_bytes_read, 16 * 2 * (2 * (11 + 12 + 15) + 2 * (8 + 4)));
  EXPECT_EQ(s.v_bytes_dense, 16 * 2 * 2 * (11 + 12 + 13 + 14 + 15));
  EXPECT_EQ(s.sparse_steps, 2 * 2);
  EXPECT_EQ(s.dense_steps, 3 * 2);
  EXPECT_EQ(s.empty_steps, 2);
}

TEST(AttentionStatistics, CountKeysAndErrorsOfEstimates) {
  AttentionState state = state_of("sift:paper,warmup=2,estimate=quantised", 10, {1, 2, 1, 32});
  state.observe_dense(0, {11, 1});
  state.observe_dense(0, {12, 2});
  EXPECT_FALSE(state.totals(64).summary().missed_keys);
  state.observe_error(0, 0, {12, 2}, {.exact_kept = 9, .missed = 9, .output_error = 9});
  state.observe_error(0, 0, {13, 3}, {.exact_kept = 6, .missed = 3});
  state.observe_error(0, 1, {13, 3}, {.exact_kept = 2, .missed = 1, .output_error = 0.5});
  state.observe_group(0, 0, {13, 3}, {.union_rows = 5, .union_eligible = 5, .candidate_rows = 8});
  state.observe_group(0, 0, {14, 4}, {.union_rows = 2, .union_eligible = 2, .candidate_rows = 3});
  const AttentionStatistics s = state.totals(64).summary();
  EXPECT_NEAR(*s.candidate_density, (8.0 / 13 + 3.0 / 14) / 2, 1e-12);
  EXPECT_EQ(s.missed_keys, 0.5);
  EXPECT_EQ(s.output_error, 0.25);
  // A shadow of 32 values takes 20 bytes.
  EXPECT_EQ(s.k_bytes_read, 64 * (11 + 12 + 8 + 3) + 20 * (13 + 14));
  EXPECT_EQ(s.k_bytes_dense, 64 * (11 + 12 + 13 + 14));
  EXPECT_EQ(s.v_bytes_read, 64 * (11 + 12 + 5 + 2));
}

TEST(AttentionStatistics, ExactScoresReadEveryKey) {
  const AttentionStatistics s = ran_five_rows().totals(16).summary();
  EXPECT_EQ(s.k_bytes_read, s.k_bytes_dense);
  EXPECT_EQ(s.k_bytes_dense, s.v_bytes_dense);
  EXPECT_FALSE(s.candidate_density || s.missed_keys || s.output_error);
}

TEST(AttentionStatistics, AddUpOverRequests) {
  AttentionTotals sum;
  sum += ran_five_rows().totals(16);
  sum += ran_five_rows().totals(16);
  const AttentionStatistics once = ran_five_rows().totals(16).summary();
  const AttentionStatistics twice = sum.summary();
  EXPECT_NEAR(*twice.realised_sparsity, *once.realised_sparsity, 1e-12);
  EXPECT_NEAR(*twice.union_density, *once.union_density, 1e-12);
  EXPECT_EQ(twice.v_bytes_read, 2 * once.v_bytes_read);
  EXPECT_EQ(twice.sparse_steps, 2 * once.sparse_steps);
  EXPECT_EQ(twice.empty_steps, 2 * once.empty_steps);
}

TEST(AttentionStatistics, PrefillCalibrationHasNoWarmUpRows) {
  AttentionState state = state_of("sift", 100);
  state.observe_dense(0, {101, 1});
  state.observe_dense(1, {101, 1});
  const AttentionStatistics s = state.totals(1).summary();
  EXPECT_EQ(s.realised_sparsity_after_warmup, 0.0);
  EXPECT_EQ(s.union_density, 1.0);
  EXPECT_EQ(s.kept_mass, 1.0);
}

TEST(AttentionStatistics, AreAbsentWhereThereIsNothingToSay) {
  AttentionState full = state_of("full", 10);
  full.observe_dense(0, {11, 1});
  full.observe_dense(1, {11, 1});
  const AttentionStatistics dense = full.totals(4).summary();
  EXPECT_FALSE(dense.realised_sparsity || dense.realised_sparsity_after_warmup ||
               dense.union_density || dense.kept_mass);
  EXPECT_EQ(dense.dense_steps, 2);
  EXPECT_EQ(dense.v_bytes_read, 2 * 2 * 11 * 4);

  AttentionState warm = state_of("sift:paper", 10);
  EXPECT_FALSE(warm.totals(4).summary().realised_sparsity);
  warm.observe_dense(0, {11, 1});
  EXPECT_EQ(warm.totals(4).summary().realised_sparsity, 0.0);
  EXPECT_FALSE(warm.totals(4).summary().realised_sparsity_after_warmup);
}

// One head of random Gaussian scores, as a kernel would drive it. `deviation(S)` of the scores.
class OneHead {
 public:
  OneHead(std::string_view policy, std::int64_t prompt)
      : state_(state_of(policy, prompt, {1, 1, 1, 4})), prompt_(prompt) {}

  template <class Deviation>
  double sparsity(std::int64_t rows, Deviation deviation) {
    for (std::int64_t s = 1; s <= rows; ++s) {
      run({s, std::max<std::int64_t>(s - prompt_, 0)}, deviation(s));
    }
    return *state_.totals(1).summary().realised_sparsity_after_warmup;
  }

 private:
  void run(const RowIdentity& row, double deviation) {
    std::normal_distribution<double> normal(0, deviation);
    std::vector<double> scores(static_cast<std::size_t>(row.visible));
    double sum = 0;
    for (double& score : scores) sum += std::exp(score = normal(random_));
    const double log_sum_exp = std::log(sum);
    const RowMode mode = state_.mode(row);
    if (mode == RowMode::sift) {
      const double threshold = state_.ln_threshold(0, 0, row) + log_sum_exp;
      HeadFacts facts;
      for (const double score : scores) facts.kept += score > threshold ? 1 : 0;
      facts.kept_eligible = facts.kept;
      state_.observe_head(0, 0, row, facts);
      state_.observe_group(0, 0, row, {facts.kept, facts.kept});
      return;
    }
    if (row.generated > 0) state_.observe_dense(0, row);
    if (mode == RowMode::record) {
      state_.record(0, 0, row,
                    ln_softmax_quantile(std::span(scores), log_sum_exp, state_.policy().tau));
    }
  }

  AttentionState state_;
  std::int64_t prompt_;
  std::mt19937_64 random_{11};
};

TEST(Sifting, ReachesTheIntendedSparsity) {
  const auto steady = [](std::int64_t) { return 1.5; };
  for (const std::string tau : {"0.5", "0.875", "0.95"}) {
    const double intended = std::stod(tau);
    EXPECT_NEAR(OneHead("sift:paper,warmup=256,tau=" + tau, 64).sparsity(2000, steady), intended,
                0.03);
    EXPECT_NEAR(OneHead("sift:adapt=0,tau=" + tau, 500).sparsity(2000, steady), intended, 0.02);
    EXPECT_NEAR(OneHead("sift:adapt=0.05,tau=" + tau, 500).sparsity(2000, steady), intended, 0.01);
  }
}

TEST(Sifting, AdaptFollowsScoresThatChange) {
  const auto sharpening = [](std::int64_t s) { return s < 500 ? 1.0 : 3.0; };
  const double fixed = OneHead("sift:adapt=0", 400).sparsity(2500, sharpening);
  const double adapted = OneHead("sift:adapt=0.05", 400).sparsity(2500, sharpening);
  EXPECT_GT(std::abs(fixed - 0.875), 0.03);
  EXPECT_NEAR(adapted, 0.875, 0.01);
}

}  // namespace
}  // namespace sift
