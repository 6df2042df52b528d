#include "sift/kernels/cpu/attend_decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/core/error.h"

namespace sift::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- A cache with one sequence, and what attention over it should give, in double ----

struct Shape {
  int kv_heads = 2;
  int group = 3;
  int dim = 64;
  DType type = DType::f16;
};

/// A cache of one layer whose pages do not lie in order, and its rows as kernels read them back.
class Fixture {
 public:
  Fixture(const Shape& shape, std::int64_t keys, std::uint32_t seed = 1)
      : shape_(shape),
        keys_(keys),
        layout_{1, shape.kv_heads, shape.dim, shape.type},
        cache_(layout_, keys + kPageRows),
        random_(seed) {
    cache_.allocate_pages((keys + kPageRows - 1) / kPageRows, pages_);
    std::shuffle(pages_.begin(), pages_.end(), random_);
    std::normal_distribution<float> normal;
    query_.resize(static_cast<std::size_t>(heads()) * shape.dim);
    for (float& value : query_) value = normal(random_);
    k_.resize(shape.kv_heads * keys * shape.dim);
    v_.resize(k_.size());
    std::vector<float> row(shape.dim);
    for (int head = 0; head < shape.kv_heads; ++head) {
      for (std::int64_t slot = 0; slot < keys; ++slot) {
        for (float& value : row) value = normal(random_);
        set_key(head, slot, row);
        for (float& value : row) value = normal(random_);
        set_value(head, slot, row);
      }
    }
  }

  int heads() const { return shape_.kv_heads * shape_.group; }
  int group() const { return shape_.group; }
  int dim() const { return shape_.dim; }
  std::int64_t keys() const { return keys_; }
  CacheView view() { return cache_.view(0, pages_); }
  AttentionShape attention_shape() const { return {1, heads(), shape_.kv_heads, shape_.dim}; }
  std::vector<float>& query() { return query_; }
  const float* key(int head, std::int64_t slot) const { return k_.data() + offset(head, slot); }
  const float* value(int head, std::int64_t slot) const { return v_.data() + offset(head, slot); }

  void set_key(int head, std::int64_t slot, const std::vector<float>& row) {
    write_cache_row(shape_.type, row.data(), shape_.dim, view().key_row(head, slot));
    read_cache_row(shape_.type, view().key_row(head, slot), shape_.dim,
                   k_.data() + offset(head, slot));
  }
  void set_value(int head, std::int64_t slot, const std::vector<float>& row) {
    write_cache_row(shape_.type, row.data(), shape_.dim, view().value_row(head, slot));
    read_cache_row(shape_.type, view().value_row(head, slot), shape_.dim,
                   v_.data() + offset(head, slot));
  }

  /// A key with score (natural logarithm) `score` under the query of head `kv_head` · group, when
  /// all queries of the group are (1, 0, 0, …) · √dim.
  void set_score(int kv_head, std::int64_t slot, float score) {
    std::vector<float> row(shape_.dim, 0.0F);
    row[0] = score;
    set_key(kv_head, slot, row);
  }
  void set_unit_queries() {
    std::fill(query_.begin(), query_.end(), 0.0F);
    for (int head = 0; head < heads(); ++head) {
      query_[head * shape_.dim] = std::sqrt(static_cast<float>(shape_.dim));
    }
  }

  /// Running sums of V, as an append leaves them.
  void fill_value_sums(AttentionState& state) const {
    for (int head = 0; head < shape_.kv_heads; ++head) {
      double* sums = state.value_sum(0, head);
      for (std::int64_t slot = 0; slot < keys_; ++slot) {
        for (int d = 0; d < shape_.dim; ++d) sums[d] += value(head, slot)[d];
      }
    }
  }

 private:
  std::size_t offset(int head, std::int64_t slot) const {
    return (static_cast<std::size_t>(head) * keys_ + slot) * shape_.dim;
  }

  Shape shape_;
  std::int64_t keys_;
  CacheLayout layout_;
  KvCache cache_;
  std::mt19937 random_;
  std::vector<std::int32_t> pages_;
  std::vector<float> query_;  // [heads, dim]
  std::vector<float> k_;      // [kv_heads, keys, dim]
  std::vector<float> v_;
};

std::vector<double> scores_of(Fixture& fixture, int head) {
  std::vector<double> scores(fixture.keys(), 0.0);
  for (std::int64_t key = 0; key < fixture.keys(); ++key) {
    for (int d = 0; d < fixture.dim(); ++d) {
      scores[key] += static_cast<double>(fixture.query()[head * fixture.dim() + d]) *
                     fixture.key(head / fixture.group(), key)[d];
    }
    scores[key] /= std::sqrt(static_cast<double>(fixture.dim()));
  }
  return scores;
}

double log_sum_exp(const std::vector<double>& scores) {
  const double greatest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - greatest);
  return greatest + std::log(sum);
}

struct Expected {
  std::vector<double> output;  // [dim]
  std::vector<bool> kept;      // [keys]
  HeadFacts facts;
  double distance = 1e9;  // of the nearest score to the threshold
};

/// One head by the definition; `ln_threshold` −Inf is dense.
Expected expect_head(Fixture& fixture, int head, const Policy& policy, double ln_threshold) {
  const std::vector<double> scores = scores_of(fixture, head);
  const double lse = log_sum_exp(scores);
  const std::int64_t keys = fixture.keys();
  Expected expected;
  expected.kept.resize(keys);
  for (std::int64_t key = 0; key < keys; ++key) {
    const bool forced = key < policy.sink || key >= keys - policy.recent;
    const bool passes = scores[key] > ln_threshold + lse;
    expected.kept[key] = forced || passes;
    expected.facts.kept += forced || passes ? 1 : 0;
    expected.facts.kept_eligible += passes && !forced ? 1 : 0;
    expected.distance = std::min(expected.distance, std::abs(scores[key] - ln_threshold - lse));
  }
  expected.facts.empty = expected.facts.kept == 0;
  if (expected.facts.empty && policy.empty == EmptyRow::highest) {
    expected.kept[std::max_element(scores.begin(), scores.end()) - scores.begin()] = true;
    expected.facts.kept = 1;
  }
  expected.output.assign(fixture.dim(), 0.0);
  std::vector<double> mean(fixture.dim(), 0.0);
  for (std::int64_t key = 0; key < keys; ++key) {
    const double weight = expected.kept[key] ? std::exp(scores[key] - lse) : 0;
    expected.facts.kept_mass += weight;
    for (int d = 0; d < fixture.dim(); ++d) {
      const double value = fixture.value(head / fixture.group(), key)[d];
      expected.output[d] += weight * value;
      mean[d] += value / static_cast<double>(keys);
    }
  }
  const double mass = expected.facts.kept_mass;
  for (int d = 0; d < fixture.dim(); ++d) {
    if (policy.compensate == Compensate::renormalise && mass > 0) expected.output[d] /= mass;
    if (policy.compensate == Compensate::mean) expected.output[d] += (1 - mass) * mean[d];
  }
  return expected;
}

// ---- States that sift at a chosen threshold ----

Policy sift_policy() {
  Policy policy;
  policy.name = "sift";
  policy.select = Select::above;
  policy.warmup = 2;
  policy.fit = FitKind::ols;
  return policy;
}

/// A state whose every head has the constant threshold ln η.
std::unique_ptr<AttentionState> state_at(Fixture& fixture, const Policy& policy, double ln_eta) {
  auto state = std::make_unique<AttentionState>(policy, fixture.attention_shape());
  state->begin_prompt(0);
  for (int head = 0; head < fixture.heads(); ++head) {
    for (std::int64_t row = 1; row <= policy.warmup; ++row) {
      state->record(0, head, {row, row}, ln_eta);
    }
  }
  fixture.fill_value_sums(*state);
  return state;
}

RowIdentity sifted_row(const Fixture& fixture) { return {fixture.keys(), 1000}; }

/// Logarithms of all softmax scores of all heads, ascending.
std::vector<double> all_ln_weights(Fixture& fixture) {
  std::vector<double> all;
  for (int head = 0; head < fixture.heads(); ++head) {
    const std::vector<double> scores = scores_of(fixture, head);
    const double lse = log_sum_exp(scores);
    for (const double score : scores) all.push_back(score - lse);
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// ln η such that about `fraction` of all keys pass: the middle of the widest gap between scores
/// thereabouts, so that rounding cannot move a key across it.
double ln_eta_for(Fixture& fixture, double fraction) {
  const std::vector<double> all = all_ln_weights(fixture);
  const auto last = std::ssize(all) - 1;
  if (last == 0) return all[0] - 1;  // one key of one head: it passes
  const auto near = static_cast<std::ptrdiff_t>((1 - fraction) * static_cast<double>(last));
  std::ptrdiff_t best = std::min(near, last - 1);
  for (std::ptrdiff_t i = std::max<std::ptrdiff_t>(near - 50, 0); i < std::min(near + 50, last);
       ++i) {
    if (all[i + 1] - all[i] > all[best + 1] - all[best]) best = i;
  }
  if (all[best] == all[best + 1]) return all[0] - 1;
  return (all[best] + all[best + 1]) / 2;
}

std::vector<const DecodeKernels*> all_kernels() {
  std::vector<const DecodeKernels*> kernels = {&portable_decode_kernels()};
  if (avx512_decode_kernels() != nullptr) kernels.push_back(avx512_decode_kernels());
  return kernels;
}

std::vector<float> attend(Fixture& fixture, AttentionState& state, const RowIdentity& row,
                          const DecodeKernels& kernels = decode_kernels()) {
  DecodeWorkspace workspace(kernels);
  std::vector<float> output(static_cast<std::size_t>(fixture.heads()) * fixture.dim(), -1.0F);
  attend_decode(state, 0, fixture.view(), row, fixture.query().data(), output.data(), workspace);
  return output;
}

void expect_close(const std::vector<float>& output, int head, const std::vector<double>& expected,
                  double tolerance, const std::string& what) {
  for (std::size_t d = 0; d < expected.size(); ++d) {
    ASSERT_NEAR(output[head * expected.size() + d], expected[d], tolerance)
        << what << ", head " << head << ", dimension " << d;
  }
}

void check_dense(Fixture& fixture, const DecodeKernels& kernels, const std::string& what) {
  AttentionState state(Policy{}, fixture.attention_shape());
  const std::vector<float> output = attend(fixture, state, {fixture.keys(), 1}, kernels);
  for (int head = 0; head < fixture.heads(); ++head) {
    const Expected expected = expect_head(fixture, head, Policy{}, -kInfinity);
    expect_close(output, head, expected.output, 5e-6, what + " dense " + kernels.name);
  }
}

/// Sifts and compares output and what is reported with the definition. Scores at the threshold
/// within rounding are avoided by the caller, or `exact` is false.
void check_sifted(Fixture& fixture, const Policy& policy, double ln_eta,
                  const DecodeKernels& kernels, const std::string& what) {
  const auto state = state_at(fixture, policy, ln_eta);
  const std::vector<float> output = attend(fixture, *state, sifted_row(fixture), kernels);
  HeadTally expected_tally;
  double union_rows = 0;
  for (int head = 0; head < fixture.heads(); ++head) {
    const Expected expected = expect_head(fixture, head, policy, ln_eta);
    ASSERT_GT(expected.distance, 2e-6) << "the test chose a threshold at a score";
    expect_close(output, head, expected.output, 5e-6, what + " sifted " + kernels.name);
    expected_tally.pruned +=
        1 - static_cast<double>(expected.facts.kept) / static_cast<double>(fixture.keys());
    expected_tally.kept_mass_after_warmup += expected.facts.kept_mass;
    expected_tally.empty_rows += expected.facts.empty ? 1 : 0;
  }
  for (int first = 0; first < fixture.heads(); first += fixture.group()) {
    std::vector<bool> any(fixture.keys());
    for (int head = first; head < first + fixture.group(); ++head) {
      const Expected expected = expect_head(fixture, head, policy, ln_eta);
      for (std::int64_t key = 0; key < fixture.keys(); ++key) {
        any[key] = any[key] || expected.kept[key];
      }
    }
    union_rows += static_cast<double>(std::count(any.begin(), any.end(), true));
  }
  const AttentionTotals totals = state->totals(1);
  EXPECT_NEAR(totals.heads.pruned, expected_tally.pruned, 1e-9) << what << " " << kernels.name;
  EXPECT_NEAR(totals.heads.kept_mass_after_warmup, expected_tally.kept_mass_after_warmup, 2e-5);
  EXPECT_EQ(totals.heads.empty_rows, expected_tally.empty_rows) << what;
  EXPECT_EQ(static_cast<double>(totals.groups.value_rows_read), union_rows) << what;
  EXPECT_EQ(totals.groups.sparse_rows, fixture.attention_shape().kv_heads);
}

void check_both(Fixture& fixture, const Policy& policy, const std::string& what) {
  const double ln_eta = ln_eta_for(fixture, 0.25);
  for (const DecodeKernels* kernels : all_kernels()) {
    check_dense(fixture, *kernels, what);
    check_sifted(fixture, policy, ln_eta, *kernels, what);
  }
}

// ---- Shapes, lengths, types ----

TEST(AttendDecode, EqualsTheDefinitionAtPageAndChunkEdges) {
  for (const std::int64_t keys :
       {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 512, 513, 767, 1023, 1024, 1025, 4097}) {
    Fixture fixture({}, keys, static_cast<std::uint32_t>(keys));
    check_both(fixture, sift_policy(), "keys " + std::to_string(keys));
  }
}

TEST(AttendDecode, TakesEveryCacheTypeHeadDimensionAndGroup) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
    for (const int dim : {16, 32, 48, 64, 80, 96, 128, 160, 256}) {
      if (type == DType::q8_0 && dim % 32 != 0) continue;
      for (const int group : {1, 2, 3, 4, 5, 6, 7, 8}) {
        Fixture fixture({2, group, dim, type}, 130, static_cast<std::uint32_t>(dim + group));
        check_both(fixture, sift_policy(),
                   std::string(traits(type).name) + " dim " + std::to_string(dim) + " group " +
                       std::to_string(group));
      }
    }
  }
}

TEST(AttendDecode, TakesGroupsOfMoreHeadsThanAVectorHasLanes) {
  Fixture fixture({1, 71, 64, DType::f16}, 600);
  check_both(fixture, sift_policy(), "group 71");
}

// ---- Options ----

TEST(AttendDecode, HonoursEveryOptionOfTheSelection) {
  Fixture fixture({}, 1100);
  for (const Compensate compensate :
       {Compensate::none, Compensate::renormalise, Compensate::mean}) {
    for (const auto& [sink, recent] : std::vector<std::pair<int, int>>{
             {0, 0}, {1, 0}, {0, 1}, {4, 64}, {600, 17}, {0, 700}, {2000, 0}, {0, 2000}}) {
      Policy policy = sift_policy();
      policy.compensate = compensate;
      policy.sink = sink;
      policy.recent = recent;
      check_both(fixture, policy,
                 "sink " + std::to_string(sink) + " recent " + std::to_string(recent));
    }
  }
}

TEST(AttendDecode, KeepsNothingOrTheHighestKeyWhenNothingPasses) {
  for (const EmptyRow empty : {EmptyRow::zero, EmptyRow::highest}) {
    for (const Compensate compensate :
         {Compensate::none, Compensate::renormalise, Compensate::mean}) {
      Fixture fixture({}, 1100);
      Policy policy = sift_policy();
      policy.empty = empty;
      policy.compensate = compensate;
      for (const DecodeKernels* kernels : all_kernels()) {
        check_sifted(fixture, policy, 1.0, *kernels, "empty");
      }
    }
  }
}

TEST(AttendDecode, OutputsExactZerosWhenThePaperKeepsNothing) {
  Fixture fixture({}, 700);
  const auto state = state_at(fixture, sift_policy(), 1.0);
  EXPECT_THAT(attend(fixture, *state, sifted_row(fixture)), testing::Each(0.0F));
}

TEST(AttendDecode, KeepsTheFirstOfEqualHighestKeys) {
  Fixture fixture({1, 2, 64, DType::f16}, 1300);
  fixture.set_unit_queries();
  for (std::int64_t key = 0; key < fixture.keys(); ++key) fixture.set_score(0, key, 0.5F);
  for (const std::int64_t key : {700, 701, 1200}) fixture.set_score(0, key, 3.0F);
  Policy policy = sift_policy();
  policy.empty = EmptyRow::highest;
  policy.compensate = Compensate::renormalise;
  for (const DecodeKernels* kernels : all_kernels()) {
    const auto state = state_at(fixture, policy, 0.5);
    const std::vector<float> output = attend(fixture, *state, sifted_row(fixture), *kernels);
    for (int d = 0; d < 64; ++d) EXPECT_NEAR(output[d], fixture.value(0, 700)[d], 1e-6);
    EXPECT_EQ(state->totals(1).groups.value_rows_read, 1);
  }
}

TEST(AttendDecode, AdaptMovesTheThresholdByWhatWasKept) {
  Fixture fixture({}, 600);
  Policy policy = sift_policy();
  policy.adapt = 0.1;
  policy.recent = 10;
  const double ln_eta = ln_eta_for(fixture, 0.5);
  for (const DecodeKernels* kernels : all_kernels()) {
    const auto state = state_at(fixture, policy, ln_eta);
    attend(fixture, *state, sifted_row(fixture), *kernels);
    for (int head = 0; head < fixture.heads(); ++head) {
      const Expected expected = expect_head(fixture, head, policy, ln_eta);
      const double kept = (static_cast<double>(expected.facts.kept_eligible) + 0.5) / (590 + 1);
      const double step = 0.1 * std::clamp(std::log(kept / (1 - policy.tau)), -2.0, 2.0);
      EXPECT_NEAR(state->head_state(0, head).correction, step, 1e-12) << kernels->name;
    }
  }
}

TEST(AttendDecode, RunsTheFirstRowsDenseAndSaysSo) {
  Fixture fixture({}, 300);
  Policy policy = sift_policy();
  policy.dense_rows = 300;
  const auto state = state_at(fixture, policy, 1.0);
  const std::vector<float> output = attend(fixture, *state, sifted_row(fixture));
  expect_close(output, 0, expect_head(fixture, 0, policy, -kInfinity).output, 5e-6, "dense_rows");
  EXPECT_EQ(state->totals(1).groups.dense_rows, 2);
  EXPECT_EQ(state->totals(1).groups.sparse_rows, 0);
}

TEST(AttendDecode, TheGateRunsShortRowsDenseOnlyWhenAutomatic) {
  for (const std::int64_t keys : {kSiftGateMinimum - 1, kSiftGateMinimum}) {
    Fixture fixture({}, keys);
    for (const Gate gate : {Gate::off, Gate::automatic}) {
      Policy policy = sift_policy();
      policy.gate = gate;
      const auto state = state_at(fixture, policy, ln_eta_for(fixture, 0.3));
      attend(fixture, *state, sifted_row(fixture));
      const bool dense = gate == Gate::automatic && keys < kSiftGateMinimum;
      EXPECT_EQ(state->totals(1).groups.dense_rows, dense ? 2 : 0);
      EXPECT_EQ(state->totals(1).groups.sparse_rows, dense ? 0 : 2);
    }
  }
}

TEST(AttendDecode, PromptRowsCountAsNeither) {
  Fixture fixture({}, 100);
  AttentionState state(Policy{}, fixture.attention_shape());
  attend(fixture, state, {100, 0});
  EXPECT_EQ(state.totals(1).groups.dense_rows, 0);
}

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
    // Exactly at the threshold a key does not pass: 1/1024 and its logarithm are exact in base 2.
    const auto state = state_at(fixture, sift_policy(), -10 * std::log(2.0));
    attend(fixture, *state, sifted_row(fixture), *kernels);
    EXPECT_EQ(state->totals(1).heads.empty_rows, 3) << kernels->name;
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
