// Decode attention: recorded quantiles, extreme and non-finite scores, and what must be equal.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "sift/core/error.h"
#include "sift/kernels/cpu/attend_decode_fixture.h"

namespace sift::cpu {
namespace {

// ---- Recorded rows ----

double exact_ln_quantile(std::vector<double> scores, double tau) {
  const double lse = log_sum_exp(scores);
  std::sort(scores.begin(), scores.end());
  const double position = tau * static_cast<double>(scores.size() - 1);
  const auto lower = static_cast<std::size_t>(position);
  const std::size_t upper = std::min(lower + 1, scores.size() - 1);
  const double fraction = position - static_cast<double>(lower);
  return std::log((1 - fraction) * std::exp(scores[lower] - lse) +
                  fraction * std::exp(scores[upper] - lse));
}

void check_recorded(Fixture& fixture, double tau, const DecodeKernels& kernels) {
  Policy policy = sift_policy();
  policy.tau = tau;
  AttentionState state(policy, fixture.attention_shape());
  const std::vector<float> output = attend(fixture, state, {fixture.keys(), 1}, kernels);
  for (int head = 0; head < fixture.heads(); ++head) {
    const LogLogFit& fit = state.head_state(0, head).fit;
    EXPECT_EQ(fit.count, 1);
    EXPECT_NEAR(fit.first_y, exact_ln_quantile(scores_of(fixture, head), tau), 1e-5)
        << "tau " << tau << " keys " << fixture.keys() << " " << kernels.name;
    expect_close(output, head, expect_head(fixture, head, policy, -kInfinity).output, 5e-6,
                 "recorded");
  }
}

TEST(AttendDecode, RecordsTheExactQuantile) {
  for (const std::int64_t keys : {1, 2, 3, 64, 383, 385, 900, 5000}) {
    Fixture fixture({}, keys, static_cast<std::uint32_t>(keys));
    for (const double tau : {0.001, 0.5, 0.875, 0.95, 0.9999}) {
      for (const DecodeKernels* kernels : all_kernels()) check_recorded(fixture, tau, *kernels);
    }
  }
}

TEST(AttendDecode, RecordsQuantilesOfTies) {
  Fixture fixture({1, 2, 64, DType::f32}, 3000);
  fixture.set_unit_queries();
  for (std::int64_t key = 0; key < fixture.keys(); ++key) {
    fixture.set_score(0, key, static_cast<float>(key % 3));
  }
  for (const double tau : {0.2, 0.5, 0.6666, 0.875}) {
    for (const DecodeKernels* kernels : all_kernels()) check_recorded(fixture, tau, *kernels);
  }
}

// ---- Extreme scores ----

TEST(AttendDecode, AllEqualScoresPassOrFailTogether) {
  Fixture fixture({1, 3, 64, DType::f16}, 1024);
  std::fill(fixture.query().begin(), fixture.query().end(), 0.0F);
  for (const DecodeKernels* kernels : all_kernels()) {
    check_dense(fixture, *kernels, "equal");
    check_sifted(fixture, sift_policy(), -std::log(1024.0) - 0.01, *kernels, "equal, all pass");
    check_sifted(fixture, sift_policy(), -std::log(1024.0) + 0.01, *kernels, "equal, none passes");
  }
}

TEST(AttendDecode, AScoreAtTheThresholdDoesNotPass) {
  std::vector<float> scores(kScoreStride, -kInfinity);
  scores[0] = 0.5F;
  scores[3] = std::nextafter(0.5F, 1.0F);
  scores[17] = 0.5F;
  scores[18] = 1.0F;
  const float threshold = 0.5F;
  const int only_key = -1;
  std::vector<std::uint16_t> indices(kScoreStride);
  std::vector<float> kept(kScoreStride);
  KeptCounts counts;
  std::uint16_t mask = 0;
  for (const DecodeKernels* kernels : all_kernels()) {
    Selected selected{indices.data(), kept.data(), &counts, &mask};
    kernels->select({scores.data(), 1, 20, &threshold, &only_key}, selected);
    EXPECT_EQ(selected.rows, 2) << kernels->name;
    EXPECT_EQ(counts.kept_eligible, 2) << kernels->name;
    EXPECT_EQ(indices[0], 3);
    EXPECT_EQ(indices[1], 18);
    EXPECT_EQ(kept[1], 1.0F);
  }
}

TEST(AttendDecode, OneDominantKeyAndOutliersOfTenThousand) {
  Fixture fixture({1, 3, 64, DType::f32}, 1500);
  fixture.set_unit_queries();
  for (const float outlier : {50.0F, 1e4F, -1e4F}) {
    for (std::int64_t key = 0; key < fixture.keys(); ++key) {
      fixture.set_score(0, key, static_cast<float>(key % 7) * 0.25F);
    }
    fixture.set_score(0, 901, outlier);
    for (const DecodeKernels* kernels : all_kernels()) {
      check_dense(fixture, *kernels, "outlier");
      check_sifted(fixture, sift_policy(), -6.9, *kernels, "outlier");
    }
  }
}

TEST(AttendDecode, MinusInfinityScoresWeighNothing) {
  Fixture fixture({1, 2, 64, DType::f32}, 1100);
  fixture.set_unit_queries();
  for (std::int64_t key = 0; key < 600; ++key) fixture.set_score(0, key, -kInfinity);
  // −Inf · 0 would be NaN: rows hold −Inf in the first dimension only, and query the same.
  for (const DecodeKernels* kernels : all_kernels()) {
    AttentionState state(Policy{}, fixture.attention_shape());
    DecodeWorkspace workspace(*kernels);
    std::vector<float> output(2 * 64);
    for (float& value : fixture.query()) value = value == 0 ? 1e-30F : value;
    attend_decode(state, 0, fixture.view(), {1100, 1}, fixture.query().data(), output.data(),
                  workspace);
    expect_close(output, 0, expect_head(fixture, 0, Policy{}, -kInfinity).output, 5e-6, "-inf");
  }
}

void expect_numerical_error(Fixture& fixture, const Policy& policy, const std::string& pattern) {
  for (const DecodeKernels* kernels : all_kernels()) {
    for (const std::int64_t generated : {0, 1, 1000}) {
      const auto state = state_at(fixture, policy, -5);
      try {
        attend(fixture, *state, {fixture.keys(), generated}, *kernels);
        FAIL() << "no error, " << kernels->name;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::numerical);
        EXPECT_THAT(error.what(), testing::HasSubstr(pattern)) << kernels->name;
      }
    }
  }
}

TEST(AttendDecode, NamesLayerAndHeadOfNonFiniteScores) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    for (const std::int64_t key : {0, 5, 511, 512, 1299}) {
      Fixture fixture({2, 2, 64, DType::f16}, 1300);
      std::fill(fixture.query().begin(), fixture.query().end(), 1.0F);
      std::vector<float> row(64, 0.0F);
      row[7] = bad;
      fixture.set_key(1, key, row);
      expect_numerical_error(fixture, sift_policy(), "layer 0, head 2 is NaN or +Inf");
    }
  }
}

TEST(AttendDecode, NamesLayerAndHeadOfARowWithoutAFiniteScore) {
  Fixture fixture({2, 2, 64, DType::f16}, 700);
  std::fill(fixture.query().begin(), fixture.query().end(), 1.0F);
  const std::vector<float> row(64, -kInfinity);
  for (std::int64_t key = 0; key < 700; ++key) fixture.set_key(1, key, row);
  expect_numerical_error(fixture, sift_policy(), "layer 0, head 2 is -Inf");
}

TEST(AttendDecode, RefusesZeroKeysAndOddHeadDimensions) {
  Fixture fixture({}, 10);
  AttentionState state(Policy{}, fixture.attention_shape());
  EXPECT_THROW(attend(fixture, state, {0, 1}), Error);
  Fixture odd({1, 1, 24, DType::f32}, 10);
  AttentionState odd_state(Policy{}, odd.attention_shape());
  EXPECT_THROW(attend(odd, odd_state, {10, 1}), Error);
}

// ---- Equalities ----

TEST(AttendDecode, OneKeyIsBitwiseEqualToDense) {
  for (const Compensate compensate :
       {Compensate::none, Compensate::renormalise, Compensate::mean}) {
    Fixture fixture({}, 1);
    Policy policy = sift_policy();
    policy.compensate = compensate;
    AttentionState dense(Policy{}, fixture.attention_shape());
    for (const DecodeKernels* kernels : all_kernels()) {
      const auto state = state_at(fixture, policy, -1);
      EXPECT_EQ(attend(fixture, *state, sifted_row(fixture), *kernels),
                attend(fixture, dense, sifted_row(fixture), *kernels));
    }
  }
}

TEST(AttendDecode, AllKeysPassingEqualsDense) {
  Fixture fixture({}, 2100);
  AttentionState dense(Policy{}, fixture.attention_shape());
  for (const DecodeKernels* kernels : all_kernels()) {
    const auto state = state_at(fixture, sift_policy(), -80);
    const std::vector<float> sifted = attend(fixture, *state, sifted_row(fixture), *kernels);
    const std::vector<float> expected = attend(fixture, dense, sifted_row(fixture), *kernels);
    for (std::size_t i = 0; i < sifted.size(); ++i) EXPECT_NEAR(sifted[i], expected[i], 1e-6);
    EXPECT_EQ(state->totals(1).groups.value_rows_read, 2 * 2100);
  }
}

TEST(AttendDecode, IsBitwiseEqualForAnyNumberOfThreads) {
  Fixture fixture({3, 3, 64, DType::f16}, 5000);
  const int before = omp_get_max_threads();
  for (const std::int64_t generated : {0, 1, 1000}) {
    std::vector<std::vector<float>> outputs;
    for (const int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      for (int repeat = 0; repeat < 20; ++repeat) {
        Policy policy = sift_policy();
        policy.compensate = Compensate::mean;
        const auto state = state_at(fixture, policy, ln_eta_for(fixture, 0.2));
        outputs.push_back(attend(fixture, *state, {5000, generated}));
        outputs.back().push_back(static_cast<float>(state->totals(1).heads.kept_mass_after_warmup));
        outputs.back().push_back(static_cast<float>(state->head_state(0, 8).fit.sum_y));
      }
    }
    EXPECT_THAT(outputs, testing::Each(outputs.front())) << "generated " << generated;
  }
  omp_set_num_threads(before);
}

TEST(AttendDecode, AWorkspaceServesRowsOfAnyShape) {
  DecodeWorkspace workspace;
  for (const auto& [group, keys] : std::vector<std::pair<int, int>>{{8, 40}, {1, 3000}, {3, 700}}) {
    Fixture fixture({2, group, 64, DType::f16}, keys);
    const double ln_eta = ln_eta_for(fixture, 0.3);
    const auto state = state_at(fixture, sift_policy(), ln_eta);
    std::vector<float> output(static_cast<std::size_t>(fixture.heads()) * 64);
    attend_decode(*state, 0, fixture.view(), sifted_row(fixture), fixture.query().data(),
                  output.data(), workspace);
    for (int head = 0; head < fixture.heads(); ++head) {
      expect_close(output, head, expect_head(fixture, head, sift_policy(), ln_eta).output, 5e-6,
                   "reused workspace");
    }
  }
}

}  // namespace
}  // namespace sift::cpu
