// Decode attention over estimated scores, compared with the reference, which computes in double.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "sift/core/error.h"
#include "sift/kernels/cpu/attend_decode_estimate_fixture.h"

namespace sift::cpu {
namespace {

Outcome by_decode(Fixture& fixture, const Policy& policy, double ln_eta,
                  const DecodeKernels& kernels) {
  const auto state = state_at(fixture, policy, ln_eta);
  Outcome outcome;
  outcome.output = attend(fixture, *state, sifted_row(fixture), kernels);
  outcome.totals = state->totals(1);
  return outcome;
}

void expect_same(const Outcome& actual, const Outcome& expected, const std::string& what) {
  for (std::size_t i = 0; i < expected.output.size(); ++i) {
    ASSERT_NEAR(actual.output[i], expected.output[i], 5e-6) << what << ", value " << i;
  }
  EXPECT_NEAR(actual.totals.heads.pruned, expected.totals.heads.pruned, 1e-9) << what;
  EXPECT_NEAR(actual.totals.heads.kept_mass_after_warmup,
              expected.totals.heads.kept_mass_after_warmup, 2e-5)
      << what;
  EXPECT_EQ(actual.totals.heads.empty_rows, expected.totals.heads.empty_rows) << what;
  EXPECT_EQ(actual.totals.groups.value_rows_read, expected.totals.groups.value_rows_read) << what;
  EXPECT_EQ(actual.totals.groups.key_rows_read, expected.totals.groups.key_rows_read) << what;
  EXPECT_EQ(actual.totals.groups.shadow_rows_read, expected.totals.groups.shadow_rows_read) << what;
}

/// How near any score of a head comes to a threshold that it is compared with.
double nearest_score(Fixture& fixture, const Policy& policy, int head, double ln_eta) {
  const std::vector<double> estimates = estimates_of(fixture, policy, head);
  const std::vector<double> exact = scores_of(fixture, head);
  const double limit = ln_eta + log_sum_exp(estimates) - policy.margin;
  std::vector<double> best_known = estimates;
  double nearest = kInfinity;
  for (std::size_t key = 0; key < exact.size(); ++key) {
    nearest = std::min(nearest, std::abs(estimates[key] - limit));
    if (estimates[key] > limit) best_known[key] = exact[key];
  }
  const double exact_limit = ln_eta + log_sum_exp(best_known);
  for (const double score : exact) nearest = std::min(nearest, std::abs(score - exact_limit));
  return nearest;
}

/// ln η such that about a quarter of all keys pass, and rounding cannot decide about any.
double clear_ln_eta(Fixture& fixture, const Policy& policy) {
  constexpr double kClear = 5e-6;
  fixture.write_shadows(policy);
  for (double ln_eta = ln_eta_for(fixture, 0.25);; ln_eta += 1e-3) {
    double nearest = kInfinity;
    for (int head = 0; head < fixture.heads(); ++head) {
      nearest = std::min(nearest, nearest_score(fixture, policy, head, ln_eta));
    }
    if (nearest > kClear) return ln_eta;
  }
}

void check(Fixture& fixture, const Policy& policy, double ln_eta, const std::string& what) {
  fixture.write_shadows(policy);
  const Outcome expected = by_reference(fixture, policy, ln_eta);
  for (const DecodeKernels* kernels : all_kernels()) {
    expect_same(by_decode(fixture, policy, ln_eta, *kernels), expected,
                what + " " + kernels->name + " bits " + std::to_string(code_bits(policy.bits)) +
                    " block " + std::to_string(policy.block));
  }
}

TEST(AttendDecodeEstimate, EqualsTheReferenceAtPageAndChunkEdges) {
  for (const std::int64_t keys : {1, 2, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1025, 3000}) {
    Fixture fixture(with_shadows(), keys, static_cast<std::uint32_t>(keys));
    for (const Policy& policy : every_shadow()) {
      check(fixture, policy, clear_ln_eta(fixture, policy), "keys " + std::to_string(keys));
    }
  }
}

TEST(AttendDecodeEstimate, TakesEveryCacheTypeHeadDimensionAndGroup) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
    for (const int dim : {32, 64, 96, 128, 256}) {
      for (const int group : {1, 2, 3, 4, 5, 8}) {
        Fixture fixture(with_shadows({2, group, dim, type}), 130,
                        static_cast<std::uint32_t>(dim + group));
        for (const Policy& policy : every_shadow()) {
          if (policy.bits == ShadowCode::bits4 && dim % policy.block != 0) continue;
          check(fixture, policy, clear_ln_eta(fixture, policy),
                std::string(traits(type).name) + " dim " + std::to_string(dim) + " group " +
                    std::to_string(group));
        }
      }
    }
  }
}

TEST(AttendDecodeEstimate, TakesShadowsWhosePairsAreParted) {
  for (const int dim : {32, 64, 96, 128}) {
    Fixture fixture({2, 3, dim, DType::f16, true, ShadowOrder::pairs_parted}, 600);
    for (const Policy& policy : every_shadow()) {
      if (policy.bits == ShadowCode::bits4 && dim % policy.block != 0) continue;
      check(fixture, policy, clear_ln_eta(fixture, policy), "parted, dim " + std::to_string(dim));
    }
  }
}

TEST(AttendDecodeEstimate, HonoursEveryOptionOfTheSelection) {
  Fixture fixture(with_shadows(), 1100);
  for (const Compensate compensate :
       {Compensate::none, Compensate::renormalise, Compensate::mean}) {
    for (const auto& [sink, recent] : std::vector<std::pair<int, int>>{
             {0, 0}, {1, 0}, {0, 1}, {4, 64}, {600, 17}, {2000, 0}, {0, 2000}}) {
      for (const double margin : {0.0, 0.5, 20.0}) {
        Policy policy = estimating(ShadowCode::bits4, 32, margin);
        policy.compensate = compensate;
        policy.sink = sink;
        policy.recent = recent;
        check(fixture, policy, clear_ln_eta(fixture, policy),
              "sink " + std::to_string(sink) + " recent " + std::to_string(recent));
      }
    }
  }
}

// With a threshold that no estimate passes, the key with the highest estimate is looked at.
TEST(AttendDecodeEstimate, LooksAtTheHighestEstimateWhenThereIsNoCandidate) {
  for (const EmptyRow empty : {EmptyRow::zero, EmptyRow::highest}) {
    Fixture fixture(with_shadows(), 1100);
    for (Policy policy : every_shadow(0)) {
      policy.empty = empty;
      policy.compensate = Compensate::mean;
      check(fixture, policy, 1.0, "empty");
      const Outcome outcome = by_decode(fixture, policy, 1.0, decode_kernels());
      EXPECT_LE(outcome.totals.groups.key_rows_read, fixture.heads());
      EXPECT_GE(outcome.totals.groups.key_rows_read, 2);
      EXPECT_EQ(outcome.totals.heads.empty_rows, fixture.heads());
    }
  }
}

TEST(AttendDecodeEstimate, EqualKeysAndZeroQueries) {
  Fixture fixture(with_shadows({1, 3, 64, DType::f16}), 700);
  for (std::int64_t key = 0; key < fixture.keys(); ++key) {
    fixture.set_key(0, key, std::vector<float>(64, 0.75F));
  }
  for (const Policy& policy : every_shadow(0)) {
    check(fixture, policy, -std::log(700.0) - 0.01, "equal, all pass");
    check(fixture, policy, -std::log(700.0) + 0.01, "equal, none passes");
  }
  std::fill(fixture.query().begin(), fixture.query().end(), 0.0F);
  for (const Policy& policy : every_shadow(0)) {
    check(fixture, policy, -std::log(700.0) - 0.01, "no query");
  }
}

// A shadow of a key with one outlier says nothing of the other values: exact scores differ from
// estimates by hundreds, both ways, and the corrected sum must not lose what is left.
TEST(AttendDecodeEstimate, OutliersThatTheShadowCannotFollow) {
  for (const float outlier : {1e3F, 1e4F, -1e4F, 6e4F}) {
    Fixture fixture(with_shadows({1, 3, 64, DType::f16}), 900);
    for (std::int64_t key = 3; key < fixture.keys(); key += 101) {
      std::vector<float> row(fixture.key(0, key), fixture.key(0, key) + 64);
      row[static_cast<std::size_t>(key % 64)] = outlier;
      fixture.set_key(0, key, row);
    }
    for (int head = 0; head < 3; ++head) fixture.query()[head * 64 + 7] = 0;
    for (const Policy& policy : every_shadow()) {
      fixture.write_shadows(policy);
      const Outcome expected = by_reference(fixture, policy, -6.5);
      for (const DecodeKernels* kernels : all_kernels()) {
        // Scores of tens of thousands in float are known to a few thousandths only.
        const Outcome actual = by_decode(fixture, policy, -6.5, *kernels);
        for (std::size_t i = 0; i < expected.output.size(); ++i) {
          ASSERT_NEAR(actual.output[i], expected.output[i], 2e-2) << outlier;
        }
      }
    }
  }
}

TEST(AttendDecodeEstimate, NamesLayerAndHeadOfNonFiniteScores) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const std::int64_t key : {0, 5, 511, 512, 1299}) {
      Fixture fixture(with_shadows({2, 2, 64, DType::f16}), 1300);
      std::vector<float> row(64, 0.0F);
      row[7] = bad;
      fixture.set_key(1, key, row);
      for (const Policy& policy : every_shadow()) {
        fixture.write_shadows(policy);
        for (const DecodeKernels* kernels : all_kernels()) {
          try {
            by_decode(fixture, policy, -6, *kernels);
            FAIL() << "no error, " << kernels->name;
          } catch (const Error& error) {
            EXPECT_EQ(error.kind(), ErrorKind::numerical);
            EXPECT_THAT(error.what(), testing::HasSubstr("layer 0, head 2 is NaN"));
          }
        }
      }
    }
  }
}

TEST(AttendDecodeEstimate, RefusesThreeAndTwoBitsByName) {
  Fixture fixture(with_shadows(), 100);
  for (const auto& [bits, name] :
       {std::pair{ShadowCode::bits3, "bits=3"}, {ShadowCode::bits2, "bits=2"}}) {
    const Policy policy = estimating(bits, 16);
    fixture.write_shadows(policy);
    try {
      by_decode(fixture, policy, -3, decode_kernels());
      FAIL() << "no error for " << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
      EXPECT_THAT(error.what(), testing::HasSubstr(name));
    }
  }
}

TEST(AttendDecodeEstimate, DenseAndRecordedRowsReadExactKeys) {
  Fixture fixture(with_shadows(), 600);
  const Policy policy = estimating(ShadowCode::bits4, 32);
  fixture.write_shadows(policy);
  AttentionState recorded(policy, fixture.attention_shape());
  AttentionState exact(sift_policy(), fixture.attention_shape());
  EXPECT_EQ(attend(fixture, recorded, {600, 1}), attend(fixture, exact, {600, 1}));
  EXPECT_EQ(recorded.head_state(0, 3).fit.first_y, exact.head_state(0, 3).fit.first_y);
  EXPECT_EQ(recorded.totals(1).groups.key_rows_read, 2 * 600);
  EXPECT_EQ(recorded.totals(1).groups.shadow_rows_read, 0);
}

TEST(AttendDecodeEstimate, IsBitwiseEqualForAnyNumberOfThreads) {
  Fixture fixture(with_shadows({3, 3, 64, DType::f16}), 5000);
  const int before = omp_get_max_threads();
  Policy policy = estimating(ShadowCode::bits4, 32);
  policy.compensate = Compensate::mean;
  fixture.write_shadows(policy);
  const double ln_eta = ln_eta_for(fixture, 0.2);
  std::vector<std::vector<float>> outputs;
  for (const int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    for (int repeat = 0; repeat < 20; ++repeat) {
      const Outcome outcome = by_decode(fixture, policy, ln_eta, decode_kernels());
      outputs.push_back(outcome.output);
      outputs.back().push_back(static_cast<float>(outcome.totals.heads.kept_mass_after_warmup));
      outputs.back().push_back(static_cast<float>(outcome.totals.groups.key_rows_read));
    }
  }
  EXPECT_THAT(outputs, testing::Each(outputs.front()));
  omp_set_num_threads(before);
}

}  // namespace
}  // namespace sift::cpu
