// Rows whose keys code of the policy's own chooses (Select::custom), step by step, against the
// definition.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "sift/attention/custom_policy_fixture.h"
#include "sift/kernels/cpu/attend_decode_fixture.h"

namespace sift::cpu {
namespace {

// What a head's n-th row of `stripes` keeps, forced keys included.
std::vector<bool> expected_keys(Fixture& fixture, int head, const Policy& policy, std::int64_t n) {
  const std::vector<double> scores = scores_of(fixture, head);
  const double lse = log_sum_exp(scores);
  std::vector<bool> kept(scores.size());
  for (std::int64_t key = 0; key < fixture.keys(); ++key) {
    const double mass = std::exp(scores[key] - lse);
    const bool chosen = (key + n + head) % 3 == 0 || mass > policy.parameters.at("above");
    const bool forced = key < policy.sink || key >= fixture.keys() - policy.recent;
    kept[key] = forced || (chosen && scores[key] > -HUGE_VAL);
  }
  return kept;
}

void check(Fixture& fixture, const std::string& text) {
  const Policy policy = parse_policy(text);
  for (const DecodeKernels* kernels : all_kernels()) {
    AttentionState state(policy, fixture.attention_shape());
    state.begin_prompt(0);
    fixture.fill_value_sums(state);
    double pruned = 0;
    for (std::int64_t n = 0; n < 3; ++n) {
      const std::vector<float> output = attend(fixture, state, {fixture.keys(), n + 1}, *kernels);
      for (int head = 0; head < fixture.heads(); ++head) {
        const std::vector<double> scores = scores_of(fixture, head);
        const double lse = log_sum_exp(scores);
        const std::vector<bool> kept = expected_keys(fixture, head, policy, n);
        std::vector<double> sum(fixture.dim(), 0.0);
        std::vector<double> mean(fixture.dim(), 0.0);
        double mass = 0;
        double count = 0;
        for (std::int64_t key = 0; key < fixture.keys(); ++key) {
          const double weight = kept[key] ? std::exp(scores[key] - lse) : 0;
          mass += weight;
          count += kept[key] ? 1 : 0;
          for (int d = 0; d < fixture.dim(); ++d) {
            const double value = fixture.value(head / fixture.group(), key)[d];
            sum[d] += weight * value;
            mean[d] += value / static_cast<double>(fixture.keys());
          }
        }
        for (int d = 0; d < fixture.dim(); ++d) {
          if (policy.compensate == Compensate::renormalise && mass > 0) sum[d] /= mass;
          if (policy.compensate == Compensate::mean) sum[d] += (1 - mass) * mean[d];
        }
        expect_close(output, head, sum, 1e-5, text + " " + kernels->name);
        pruned += 1 - count / static_cast<double>(fixture.keys());
      }
    }
    EXPECT_NEAR(state.totals(1).heads.pruned, pruned, 1e-9) << text;
    EXPECT_EQ(state.totals(1).groups.sparse_rows, 3 * fixture.attention_shape().kv_heads);
    EXPECT_EQ(state.totals(1).degenerate_fits, 0);
  }
}

TEST(AttendCustom, KeepsWhatTheCodeChoosesAtEveryEdge) {
  for (const std::int64_t keys : {1, 2, 15, 16, 17, 64, 65, 511, 512, 513, 1025}) {
    Fixture fixture({}, keys, static_cast<std::uint32_t>(keys));
    check(fixture, "stripes");
  }
}

TEST(AttendCustom, HonoursEveryOption) {
  Fixture fixture({}, 700);
  for (const char* text :
       {"stripes:compensate=none", "stripes:compensate=mean", "stripes:sink=4,recent=64",
        "stripes:above=0.01", "stripes:above=1,sink=600,recent=200,compensate=mean"}) {
    check(fixture, text);
  }
}

TEST(AttendCustom, KeysWithoutMassAreNeverKept) {
  Fixture fixture({1, 2, 64, DType::f32}, 100);
  fixture.set_unit_queries();
  for (std::int64_t key = 0; key < 100; ++key) {
    fixture.set_score(0, key, key % 2 == 0 ? -kInfinity : 0.01F * static_cast<float>(key));
  }
  // A product of 0 and −Inf would be NaN: the other values of the queries are 0 and so are the
  // keys'.
  std::vector<float>& query = fixture.query();
  ASSERT_EQ(query[1], 0);
  check(fixture, "stripes");
}

TEST(AttendCustom, ShortRowsRunDenseWhereAsked) {
  Fixture fixture({}, 300);
  AttentionState state(parse_policy("stripes:dense_rows=300"), fixture.attention_shape());
  state.begin_prompt(0);
  attend(fixture, state, {300, 1});
  EXPECT_EQ(state.totals(1).groups.dense_rows, 2);
  EXPECT_EQ(state.totals(1).groups.sparse_rows, 0);
}

}  // namespace
}  // namespace sift::cpu
