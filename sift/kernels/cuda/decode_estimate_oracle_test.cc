// The oracle of the GPU's estimated scores against the reference backend.

#include "sift/kernels/cuda/decode_estimate_oracle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "sift/kernels/cpu/attend_decode_estimate_fixture.h"

namespace sift::cuda {
namespace {

using cpu::Fixture;

constexpr double kLn2 = 0.69314718055994530942;

std::vector<double> in_base_2(std::vector<double> scores) {
  for (double& score : scores) score /= kLn2;
  return scores;
}

EstimateRule rule_of(const Policy& policy, double ln_eta) {
  return {ln_eta / kLn2, policy.margin / kLn2, static_cast<int>(policy.sink),
          static_cast<int>(policy.recent),
          policy.empty == EmptyRow::zero ? EmptyHead::zero : EmptyHead::highest};
}

/// The output [dim] that follows from a head's weights.
std::vector<double> output_of(const Fixture& fixture, const Policy& policy, int kv_head,
                              const EstimatedHead& head) {
  std::vector<double> output(static_cast<std::size_t>(fixture.dim()), 0.0);
  std::vector<double> mean = output;
  for (std::int64_t key = 0; key < fixture.keys(); ++key) {
    for (int d = 0; d < fixture.dim(); ++d) {
      const double value = fixture.value(kv_head, key)[d];
      output[d] += head.weights[key] * value;
      mean[d] += value / static_cast<double>(fixture.keys());
    }
  }
  const double mass = head.facts.kept_mass;
  for (std::size_t d = 0; d < output.size(); ++d) {
    if (policy.compensate == Compensate::renormalise && mass > 0) output[d] /= mass;
    if (policy.compensate == Compensate::mean) output[d] += (1 - mass) * mean[d];
  }
  return output;
}

/// Expects that the oracle and the reference come to the same.
void check(Fixture& fixture, const Policy& policy, double ln_eta) {
  fixture.write_shadows(policy);
  const cpu::Outcome expected = cpu::by_reference(fixture, policy, ln_eta);
  const EstimateRule rule = rule_of(policy, ln_eta);
  double pruned = 0;
  double kept_mass = 0;
  std::int64_t empty = 0;
  std::int64_t key_rows = 0;
  std::int64_t value_rows = 0;
  for (int kv_head = 0; kv_head < fixture.heads() / fixture.group(); ++kv_head) {
    std::vector<EstimatedHead> heads;
    for (int head = kv_head * fixture.group(); head < (kv_head + 1) * fixture.group(); ++head) {
      heads.push_back(sift_estimated(in_base_2(cpu::scores_of(fixture, head)),
                                     in_base_2(cpu::estimates_of(fixture, policy, head)), rule));
      const HeadFacts& facts = heads.back().facts;
      pruned += 1 - static_cast<double>(facts.kept) / static_cast<double>(fixture.keys());
      kept_mass += facts.kept_mass;
      empty += facts.empty ? 1 : 0;
      const std::vector<double> output = output_of(fixture, policy, kv_head, heads.back());
      cpu::expect_close(expected.output, head, output, 1e-6, "oracle");
    }
    const GroupFacts facts = unite(heads, rule);
    key_rows += facts.candidate_rows;
    value_rows += facts.union_rows;
  }
  EXPECT_NEAR(expected.totals.heads.pruned, pruned, 1e-9);
  EXPECT_NEAR(expected.totals.heads.kept_mass_after_warmup, kept_mass, 1e-9);
  EXPECT_EQ(expected.totals.heads.empty_rows, empty);
  EXPECT_EQ(expected.totals.groups.key_rows_read, key_rows);
  EXPECT_EQ(expected.totals.groups.value_rows_read, value_rows);
}

TEST(DecodeEstimateOracle, EqualsTheReferenceForEveryOption) {
  Fixture fixture(cpu::with_shadows(), 300);
  for (Policy policy : cpu::every_shadow()) {
    for (const double margin : {0.0, 0.5, 20.0}) {
      for (const auto& [sink, recent] :
           std::vector<std::pair<int, int>>{{0, 0}, {4, 0}, {2, 30}, {1000, 0}}) {
        for (const Compensate compensate :
             {Compensate::none, Compensate::renormalise, Compensate::mean}) {
          SCOPED_TRACE(testing::Message() << "margin " << margin << " sink " << sink);
          policy.margin = margin;
          policy.sink = sink;
          policy.recent = recent;
          policy.compensate = compensate;
          check(fixture, policy, cpu::ln_eta_for(fixture, 0.25));
        }
      }
    }
  }
}

// With a threshold that nothing passes, one that only stand-ins pass, and one that all do.
TEST(DecodeEstimateOracle, EqualsTheReferenceWhereNoneOrAllPass) {
  for (const std::int64_t keys : {1, 2, 100}) {
    Fixture fixture(cpu::with_shadows(), keys);
    for (Policy policy : cpu::every_shadow(0)) {
      for (const EmptyRow empty : {EmptyRow::zero, EmptyRow::highest}) {
        for (const double ln_eta : {1.0, -0.5, -2.0, -2.5, -3.0, -100.0}) {
          SCOPED_TRACE(testing::Message() << keys << " keys, ln η " << ln_eta);
          policy.empty = empty;
          policy.compensate = Compensate::mean;
          check(fixture, policy, ln_eta);
        }
      }
    }
  }
}

TEST(DecodeEstimateOracle, EqualsTheReferenceForKeysThatShadowsCannotFollow) {
  for (const float outlier : {1e3F, -1e4F, 6e4F}) {
    Fixture fixture(cpu::with_shadows({1, 3, 64, DType::f16}), 200);
    for (std::int64_t key = 3; key < fixture.keys(); key += 41) {
      std::vector<float> row(fixture.key(0, key), fixture.key(0, key) + 64);
      row[static_cast<std::size_t>(key % 64)] = outlier;
      fixture.set_key(0, key, row);
    }
    for (const Policy& policy : cpu::every_shadow()) check(fixture, policy, -6.5);
  }
}

// Estimates say which keys are looked at, exact scores which are kept.
TEST(DecodeEstimateOracle, ReplacesEstimatesByExactScores) {
  const std::vector<double> exact = {0, 3, 4, -1};
  const std::vector<double> estimates = {2, 2.5, -5, -1.5};
  EstimateRule rule;
  rule.log2_threshold = -1.5;
  const EstimatedHead head = sift_estimated(exact, estimates, rule);
  EXPECT_EQ(head.candidates, (std::vector<char>{1, 1, 0, 0}));
  EXPECT_EQ(head.kept, (std::vector<char>{0, 1, 0, 0}));
  const double sum = 1 + 8 + std::exp2(-5) + std::exp2(-1.5);
  EXPECT_DOUBLE_EQ(head.log_sum_exp, std::log2(sum));
  EXPECT_DOUBLE_EQ(head.facts.kept_mass, 8 / sum);
}

TEST(DecodeEstimateOracle, LetsAStandInPass) {
  EstimateRule rule;
  rule.log2_threshold = -1;
  const EstimatedHead head = sift_estimated({0, 9, 0}, {1, 1, 0.5}, rule);
  EXPECT_EQ(head.candidates, (std::vector<char>{1, 0, 0}));  // the first of equals
  EXPECT_TRUE(head.facts.empty);
  EXPECT_EQ(head.kept, head.candidates);
  const EstimatedHead passing = sift_estimated({5, 9, 0}, {1, 1, 0.5}, rule);
  EXPECT_FALSE(passing.facts.empty);
  EXPECT_EQ(passing.facts.kept_eligible, 1);
}

TEST(DecodeEstimateOracle, TellsHowNearADecisionWas) {
  EstimateRule rule;
  rule.log2_threshold = -2;
  // Four equal keys lie at the threshold.
  EXPECT_NEAR(sift_estimated({1, 1, 1, 1}, {1, 1, 1, 1}, rule).clearance, 0, 1e-15);
  rule.margin = 0.25;
  rule.sink = 4;
  EXPECT_EQ(sift_estimated({1, 1, 1, 1}, {1, 1, 1, 1}, rule).clearance,
            std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace sift::cuda
