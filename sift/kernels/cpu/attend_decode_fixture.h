#pragma once

// What the tests of decode attention share: caches to attend over, and what attention over them is
// by its definition, in double, independent of any kernel.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/kernels/cpu/attend_decode.h"

namespace sift::cpu {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- A cache with one sequence, and what attention over it should give, in double ----

struct Shape {
  int kv_heads = 2;
  int group = 3;
  int dim = 64;
  DType type = DType::f16;
  bool shadows = false;  ///< room for any shadow of the keys
  ShadowOrder order = ShadowOrder::as_stored;
};

inline CacheLayout layout_of(const Shape& shape) {
  CacheLayout layout{1, shape.kv_heads, shape.dim, shape.type, {}, shape.order};
  if (shape.shadows) layout.sidecars[Sidecar::key_shadow] = static_cast<std::size_t>(shape.dim) + 4;
  return layout;
}

/// A cache of one layer whose pages do not lie in order, and its rows as kernels read them back.
class Fixture {
 public:
  Fixture(const Shape& shape, std::int64_t keys, std::uint32_t seed = 1)
      : shape_(shape),
        keys_(keys),
        layout_(layout_of(shape)),
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

  /// The shadows of all keys, as an append leaves them.
  void write_shadows(const Policy& policy) {
    for (int head = 0; head < shape_.kv_heads; ++head) {
      for (std::int64_t slot = 0; slot < keys_; ++slot) {
        write_sidecars(policy, view(), head, slot);
      }
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

inline std::vector<double> scores_of(Fixture& fixture, int head) {
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

inline double log_sum_exp(const std::vector<double>& scores) {
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
inline Expected expect_head(Fixture& fixture, int head, const Policy& policy, double ln_threshold) {
  const std::vector<double> scores = scores_of(fixture, head);
  const double lse = log_sum_exp(scores);
  const double limit = policy.threshold == Threshold::raw ? ln_threshold : ln_threshold + lse;
  const std::int64_t keys = fixture.keys();
  Expected expected;
  expected.kept.resize(keys);
  for (std::int64_t key = 0; key < keys; ++key) {
    const bool forced = key < policy.sink || key >= keys - policy.recent;
    const bool passes = scores[key] > limit;
    expected.kept[key] = forced || passes;
    expected.facts.kept += forced || passes ? 1 : 0;
    expected.facts.kept_eligible += passes && !forced ? 1 : 0;
    expected.distance = std::min(expected.distance, std::abs(scores[key] - limit));
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

inline Policy sift_policy() {
  Policy policy;
  policy.name = "sift";
  policy.select = Select::above;
  policy.warmup = 2;
  policy.fit = FitKind::ols;
  return policy;
}

/// A state whose every head has the constant threshold ln η.
inline std::unique_ptr<AttentionState> state_at(Fixture& fixture, const Policy& policy,
                                                double ln_eta) {
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

inline RowIdentity sifted_row(const Fixture& fixture) { return {fixture.keys(), 1000}; }

/// Logarithms of all softmax scores of all heads, ascending.
inline std::vector<double> all_ln_weights(Fixture& fixture) {
  std::vector<double> all;
  for (int head = 0; head < fixture.heads(); ++head) {
    const std::vector<double> scores = scores_of(fixture, head);
    const double lse = log_sum_exp(scores);
    for (const double score : scores) all.push_back(score - lse);
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// ln η such that about `fraction` of all keys pass: the middle of the narrowest gap between scores
/// thereabouts that rounding cannot bridge, so that small errors of the threshold show.
inline double ln_eta_for(Fixture& fixture, double fraction) {
  constexpr double kNarrowest = 2e-5;
  const std::vector<double> all = all_ln_weights(fixture);
  const auto last = std::ssize(all) - 1;
  const auto near = static_cast<std::ptrdiff_t>((1 - fraction) * static_cast<double>(last));
  double gap = std::numeric_limits<double>::infinity();
  double middle = all[0] - 1;
  for (std::ptrdiff_t i = std::max<std::ptrdiff_t>(near - 50, 0); i < std::min(near + 50, last);
       ++i) {
    const double width = all[i + 1] - all[i];
    if (width < kNarrowest || width >= gap) continue;
    gap = width;
    middle = all[i] + width / 2;
  }
  return middle;
}

inline std::vector<const DecodeKernels*> all_kernels() {
  std::vector<const DecodeKernels*> kernels = {&portable_decode_kernels()};
  if (avx512_decode_kernels() != nullptr) kernels.push_back(avx512_decode_kernels());
  return kernels;
}

inline std::vector<float> attend(Fixture& fixture, AttentionState& state, const RowIdentity& row,
                                 const DecodeKernels& kernels = decode_kernels()) {
  DecodeWorkspace workspace(kernels);
  std::vector<float> output(static_cast<std::size_t>(fixture.heads()) * fixture.dim(), -1.0F);
  attend_decode(state, 0, fixture.view(), row, fixture.query().data(), output.data(), workspace);
  return output;
}

inline void expect_close(const std::vector<float>& output, int head,
                         const std::vector<double>& expected, double tolerance,
                         const std::string& what) {
  for (std::size_t d = 0; d < expected.size(); ++d) {
    ASSERT_NEAR(output[head * expected.size() + d], expected[d], tolerance)
        << what << ", head " << head << ", dimension " << d;
  }
}

inline void check_dense(Fixture& fixture, const DecodeKernels& kernels, const std::string& what) {
  AttentionState state(Policy{}, fixture.attention_shape());
  const std::vector<float> output = attend(fixture, state, {fixture.keys(), 1}, kernels);
  for (int head = 0; head < fixture.heads(); ++head) {
    const Expected expected = expect_head(fixture, head, Policy{}, -kInfinity);
    expect_close(output, head, expected.output, 5e-6, what + " dense " + kernels.name);
  }
}

/// Sifts and compares output and what is reported with the definition. Scores at the threshold
/// within rounding are avoided by the caller, or `exact` is false.
inline void check_sifted(Fixture& fixture, const Policy& policy, double ln_eta,
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

inline void check_both(Fixture& fixture, const Policy& policy, const std::string& what) {
  const double ln_eta = ln_eta_for(fixture, 0.25);
  for (const DecodeKernels* kernels : all_kernels()) {
    check_dense(fixture, *kernels, what);
    check_sifted(fixture, policy, ln_eta, *kernels, what);
  }
}

}  // namespace sift::cpu
