#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <random>

#include "sift/kernels/cuda/device_array.h"
#include "sift/kernels/cuda/record_quantiles.h"
#include "sift/sifting/quantile.h"

namespace sift::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr double kLn2 = 0.69314718055994530942;

using Random = std::mt19937;

/// Makes the scores of one head over `keys` keys, base 2.
using Pattern = std::function<std::vector<float>(int keys, Random& random)>;

Pattern each(const std::function<float(Random&)>& score) {
  return [score](int keys, Random& random) {
    std::vector<float> scores(keys);
    for (float& value : scores) value = score(random);
    return scores;
  };
}

Pattern normal(float mean, float deviation) {
  return each([=](Random& random) { return std::normal_distribution(mean, deviation)(random); });
}

Pattern one_of(const std::vector<float>& values) {
  return each([values](Random& random) { return values[random() % values.size()]; });
}

/// `pattern`, but for one key at a random place.
Pattern with_one(float score, const Pattern& pattern) {
  return [=](int keys, Random& random) {
    std::vector<float> scores = pattern(keys, random);
    scores[random() % scores.size()] = score;
    return scores;
  };
}

struct NamedPattern {
  const char* name;
  Pattern pattern;
};

const std::vector<NamedPattern>& patterns() {
  static const std::vector<NamedPattern> all = {
      {"usual", normal(0, 1.44F)},
      {"wide", normal(0, 40)},
      {"nearly equal", normal(3, 0.001F)},
      {"far from zero", normal(10000, 1)},
      {"equal", one_of({-1.5F})},
      {"zeros of both signs", one_of({0.0F, -0.0F})},
      {"two values", one_of({0, 1})},
      {"ties", one_of({0, 1, 2, 3.5F, 3.5F, -7})},
      {"outliers", one_of({1e4F, -1e4F, 1, 2})},
      {"smallest numbers", one_of({1e-45F, 2e-45F, -1e-45F, 0})},
      {"one dominant key", with_one(40, normal(-100, 3))},
      {"one key only", with_one(5, one_of({-kInfinity}))},
      {"half masked", with_one(5, one_of({-kInfinity, 1, 2, 3}))},
      {"most masked", with_one(5, one_of({-kInfinity, -kInfinity, -kInfinity, -kInfinity, 2}))},
  };
  return all;
}

/// Of the scores that are numbers, −∞ if there are none.
float log_sum_exp2(const std::vector<float>& scores) {
  double maximum = -kInfinity;
  for (const float score : scores) {
    if (score < kInfinity) maximum = std::max<double>(maximum, score);
  }
  if (maximum == -kInfinity) return -kInfinity;
  double sum = 0;
  for (const float score : scores) {
    if (score < kInfinity) sum += std::exp2(score - maximum);
  }
  return static_cast<float>(maximum + std::log2(sum));
}

/// A batch of scores on the device, and the fits that the CPU makes of them.
class Batch {
 public:
  Batch(const std::vector<int>& lengths, int heads, int kv_heads, const std::vector<double>& taus,
        const Pattern& pattern)
      : heads_(heads), lengths_(lengths), scores_(place(lengths, kv_heads, heads / kv_heads)) {
    Random random(17);
    const int group = heads / kv_heads;
    std::vector<float> scores(scores_.size(), kNaN);
    std::vector<float> lse;
    std::size_t begin = 0;  // the first row of a group
    for (std::size_t request = 0; request < lengths.size(); ++request) {
      const int keys = lengths[request];
      for (int head = 0; head < heads; ++head) {
        if (head > 0 && head % group == 0) begin += padded(keys);
        std::vector<float> values = pattern(keys, random);
        for (int key = 0; key < keys; ++key) {
          scores[(begin + key) * group + head % group] = values[key];
        }
        lse.push_back(log_sum_exp2(values));
        expected_.emplace_back().add(keys, ln_quantile(values, lse.back(), taus[request]));
      }
      begin += padded(keys);
    }
    scores_.set(scores);
    log_sum_exp_ = std::make_unique<DeviceArray<float>>(lse);
    visible_ = std::make_unique<DeviceArray<std::int32_t>>(
        std::vector<std::int32_t>(lengths.begin(), lengths.end()));
    generated_ =
        std::make_unique<DeviceArray<std::int32_t>>(std::vector<std::int32_t>(lengths.size(), 1));
    taus_ = std::make_unique<DeviceArray<double>>(taus);
    states_ = std::make_unique<DeviceArray<HeadMethodState>>(lengths.size() * heads);
    arguments.batch = static_cast<int>(lengths.size());
    arguments.method.heads = heads;
    arguments.method.kv_heads = kv_heads;
    arguments.method.head_states = states_->data();
    arguments.method.visible = visible_->data();
    arguments.method.generated = generated_->data();
    arguments.method.taus = taus_->data();
    arguments.scores = scores_.data();
    arguments.log_sum_exp = log_sum_exp_->data();
  }

  std::vector<HeadMethodState> run(int blocks) {
    RecordQuantilesPlan plan;
    must(plan_record_quantiles(arguments.batch, heads_, arguments.method.kv_heads,
                               *std::max_element(lengths_.begin(), lengths_.end()), plan));
    if (blocks != 0) plan = {blocks};
    states_->fill_bytes(0);
    must(launch_record_quantiles(plan, arguments, nullptr));
    must(cudaDeviceSynchronize());
    return states_->host();
  }

  /// Expects what the CPU finds, with every number of blocks.
  void check() {
    for (const int blocks : {0, 1, 2, 4, 8}) {
      const std::vector<HeadMethodState> states = run(blocks);
      for (std::size_t row = 0; row < states.size(); ++row) {
        const LogLogFit& fit = states[row].head.fit;
        const LogLogFit& expected = expected_[row];
        SCOPED_TRACE(testing::Message() << "blocks " << blocks << " keys " << lengths_[row / heads_]
                                        << " head " << row % heads_);
        ASSERT_EQ(fit.count, expected.count);
        ASSERT_EQ(fit.refused, expected.refused);
        ASSERT_NEAR(fit.first_x, expected.first_x, 1e-14);
        ASSERT_NEAR(fit.first_y, expected.first_y, 1e-11);
      }
    }
  }

  const LogLogFit& expected(std::size_t row) const { return expected_[row]; }
  RecordQuantilesArguments arguments;

 private:
  static std::size_t padded(int keys) {
    return (keys + kScoreRowPadding - 1) / kScoreRowPadding * kScoreRowPadding;
  }
  static std::size_t place(const std::vector<int>& lengths, int kv_heads, int group) {
    std::size_t rows = 0;
    for (const int keys : lengths) rows += padded(keys);
    return rows * kv_heads * group;
  }
  static double ln_quantile(const std::vector<float>& scores, float lse, double tau) {
    std::vector<double> natural(scores.begin(), scores.end());
    for (double& score : natural) {
      // The CPU's selection has no order for NaN: its kernels refuse such a row before.
      if (!(score < HUGE_VAL)) return HUGE_VAL;
      score *= kLn2;
    }
    return ln_softmax_quantile(natural, lse * kLn2, tau);
  }

  int heads_;
  std::vector<int> lengths_;
  DeviceArray<float> scores_;
  std::vector<LogLogFit> expected_;
  std::unique_ptr<DeviceArray<float>> log_sum_exp_;
  std::unique_ptr<DeviceArray<std::int32_t>> visible_;
  std::unique_ptr<DeviceArray<std::int32_t>> generated_;
  std::unique_ptr<DeviceArray<double>> taus_;
  std::unique_ptr<DeviceArray<HeadMethodState>> states_;
};

const std::vector<int> kLengths = {1,   2,    31,   32,   33,   255,  256,   257,
                                   100, 1023, 1024, 1025, 4096, 9999, 100001};

std::vector<double> different_taus(std::size_t count) {
  const std::vector<double> some = {0.5, 0.875, 0.95, 0.001, 0.75, 0.999};
  std::vector<double> taus(count);
  for (std::size_t i = 0; i < count; ++i) taus[i] = some[i % some.size()];
  return taus;
}

TEST(RecordQuantiles, EqualsTheCpuForEveryPattern) {
  for (const NamedPattern& named : patterns()) {
    SCOPED_TRACE(named.name);
    Batch(kLengths, 8, 2, different_taus(kLengths.size()), named.pattern).check();
    if (HasFatalFailure()) return;
  }
}

TEST(RecordQuantiles, TakesEveryGroupSize) {
  for (int group = 1; group <= 16; ++group) {
    SCOPED_TRACE(group);
    const std::vector<int> lengths = {1, 37, 1000, 5000, 2051};
    for (const std::size_t pattern : {0, 2, 10}) {
      Batch(lengths, 2 * group, 2, different_taus(5), patterns()[pattern].pattern).check();
      if (HasFatalFailure()) return;
    }
  }
}

TEST(RecordQuantiles, TakesTheLongestContext) {
  for (const std::size_t pattern : {0, 1, 2, 6}) {
    Batch({262144, 3}, 8, 2, {0.875, 0.5}, patterns()[pattern].pattern).check();
    if (HasFatalFailure()) return;
  }
}

TEST(RecordQuantiles, TakesManyRequests) {
  std::vector<int> lengths(512);
  std::iota(lengths.begin(), lengths.end(), 200);
  Batch(lengths, 2, 1, different_taus(512), patterns()[0].pattern).check();
}

TEST(RecordQuantiles, RefusesScoresThatAreNoNumbers) {
  for (const float bad : {kNaN, -kNaN, kInfinity}) {
    Batch batch(kLengths, 4, 2, different_taus(kLengths.size()), with_one(bad, normal(0, 1.44F)));
    EXPECT_EQ(batch.expected(0).refused, 1);
    batch.check();
  }
  // Without a finite score there is no softmax.
  Batch masked({1, 300}, 2, 1, {0.5, 0.5}, one_of({-kInfinity}));
  EXPECT_EQ(masked.expected(0).refused, 1);
  masked.check();
}

TEST(RecordQuantiles, LeavesOtherModesAlone) {
  const std::vector<int> lengths = {100, 3000, 257, 1025};
  Batch batch(lengths, 8, 2, different_taus(4), patterns()[0].pattern);
  const DeviceArray<RowMode> modes(
      std::vector<RowMode>{RowMode::record, RowMode::sift, RowMode::dense, RowMode::record});
  batch.arguments.method.modes = modes.data();
  const std::vector<HeadMethodState> states = batch.run(0);
  for (std::size_t row = 0; row < states.size(); ++row) {
    const bool records = row / 8 == 0 || row / 8 == 3;
    EXPECT_EQ(states[row].head.fit.count, records ? 1 : 0) << row;
    if (records) EXPECT_NEAR(states[row].head.fit.first_y, batch.expected(row).first_y, 1e-11);
  }
}

TEST(RecordQuantiles, FindsStatesByTheirSlots) {
  const std::vector<int> lengths = {100, 3000, 257, 1025};
  const std::vector<std::int32_t> slots = {2, 0, 3, 1};
  Batch batch(lengths, 8, 2, different_taus(4), patterns()[0].pattern);
  const DeviceArray<std::int32_t> device_slots(slots);
  batch.arguments.method.slots = device_slots.data();
  const std::vector<HeadMethodState> states = batch.run(0);
  for (std::size_t row = 0; row < states.size(); ++row) {
    const HeadMethodState& state = states[slots[row / 8] * 8 + row % 8];
    EXPECT_NEAR(state.head.fit.first_y, batch.expected(row).first_y, 1e-11) << row;
  }
}

}  // namespace
}  // namespace sift::cuda
