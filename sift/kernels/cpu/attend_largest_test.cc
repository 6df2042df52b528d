// Rows that keep a fixed share of the keys (Select::largest), step by step, against the definition.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "sift/attention/policy.h"
#include "sift/kernels/cpu/attend_decode_fixture.h"

namespace sift::cpu {
namespace {

std::unique_ptr<AttentionState> fresh_state(Fixture& fixture, const Policy& policy) {
  auto state = std::make_unique<AttentionState>(policy, fixture.attention_shape());
  state->begin_prompt(0);
  fixture.fill_value_sums(*state);
  return state;
}

// The keys that a head keeps: forced ones, then by falling score, the first of equals.
std::set<std::int64_t> expected_keys(Fixture& fixture, int head, const Policy& policy) {
  const std::vector<double> scores = scores_of(fixture, head);
  const std::int64_t keys = fixture.keys();
  std::set<std::int64_t> kept;
  std::vector<std::int64_t> others;
  for (std::int64_t key = 0; key < keys; ++key) {
    if (key < policy.sink || key >= keys - policy.recent) {
      kept.insert(key);
    } else {
      others.push_back(key);
    }
  }
  std::ranges::stable_sort(others, std::greater(), [&](std::int64_t key) { return scores[key]; });
  const auto budget =
      static_cast<std::size_t>(std::ceil(policy.keep * static_cast<double>(keys) - 1e-9));
  for (const std::int64_t key : others) {
    if (kept.size() >= budget) break;
    kept.insert(key);
  }
  return kept;
}

std::vector<double> expected_output(Fixture& fixture, int head, const Policy& policy) {
  const std::vector<double> scores = scores_of(fixture, head);
  const double lse = log_sum_exp(scores);
  const std::set<std::int64_t> kept = expected_keys(fixture, head, policy);
  std::vector<double> sum(fixture.dim(), 0.0);
  std::vector<double> mean(fixture.dim(), 0.0);
  double mass = 0;
  for (std::int64_t key = 0; key < fixture.keys(); ++key) {
    const double weight = kept.contains(key) ? std::exp(scores[key] - lse) : 0;
    mass += weight;
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
  return sum;
}

void check(Fixture& fixture, const Policy& policy, const std::string& what) {
  for (const DecodeKernels* kernels : all_kernels()) {
    const auto state = fresh_state(fixture, policy);
    const std::vector<float> output = attend(fixture, *state, {fixture.keys(), 1}, *kernels);
    double kept = 0;
    for (int head = 0; head < fixture.heads(); ++head) {
      expect_close(output, head, expected_output(fixture, head, policy), 1e-5,
                   what + " " + kernels->name);
      kept += static_cast<double>(expected_keys(fixture, head, policy).size());
    }
    const AttentionTotals totals = state->totals(1);
    EXPECT_NEAR(totals.heads.pruned, fixture.heads() - kept / static_cast<double>(fixture.keys()),
                1e-9)
        << what;
    EXPECT_EQ(totals.groups.sparse_rows, fixture.attention_shape().kv_heads) << what;
    EXPECT_EQ(totals.degenerate_fits, 0) << what;
  }
}

TEST(AttendLargest, KeepsTheShareAtEveryEdge) {
  for (const std::int64_t keys : {1, 2, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1024, 1025, 2049}) {
    Fixture fixture({}, keys, static_cast<std::uint32_t>(keys));
    for (const char* text : {"topk", "topk:keep=0.5", "topk:keep=0.001", "topk:keep=1"}) {
      check(fixture, parse_policy(text), std::string(text) + ", keys " + std::to_string(keys));
    }
  }
}

TEST(AttendLargest, HonoursEveryOption) {
  Fixture fixture({}, 1100);
  for (const char* text : {"topk:compensate=none", "topk:compensate=mean", "topk:sink=4,recent=64",
                           "topk:keep=0.05,sink=600,recent=17", "topk:keep=0.25,recent=2000",
                           "topk:keep=0.9,sink=1,recent=1,compensate=mean"}) {
    check(fixture, parse_policy(text), text);
  }
}

TEST(AttendLargest, AWholeShareIsDense) {
  Fixture fixture({}, 700);
  AttentionState dense(Policy{}, fixture.attention_shape());
  const auto whole = fresh_state(fixture, parse_policy("topk:keep=1"));
  const std::vector<float> expected = attend(fixture, dense, {700, 1});
  const std::vector<float> found = attend(fixture, *whole, {700, 1});
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 5e-6);
}

TEST(AttendLargest, OfEqualScoresTheFirstAreKept) {
  Fixture fixture({1, 2, 64, DType::f16}, 1300);
  fixture.set_unit_queries();
  for (const float score : {0.0F, 0.5F, -2.0F}) {
    for (std::int64_t key = 0; key < fixture.keys(); ++key) fixture.set_score(0, key, score);
    fixture.set_score(0, 900, score + 1);
    check(fixture, parse_policy("topk:keep=0.25"), "equal scores " + std::to_string(score));
    check(fixture, parse_policy("topk:keep=0.25,sink=3,recent=5"), "equal scores, some forced");
  }
}

TEST(AttendLargest, ShortRowsRunDenseWhereAsked) {
  Fixture fixture({}, 300);
  const auto state = fresh_state(fixture, parse_policy("topk:dense_rows=300"));
  attend(fixture, *state, {300, 1});
  EXPECT_EQ(state->totals(1).groups.dense_rows, 2);
  EXPECT_EQ(state->totals(1).groups.sparse_rows, 0);
}

}  // namespace
}  // namespace sift::cpu
