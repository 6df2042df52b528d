#include "sift/sifting/quantile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "sift/sifting/power_law.h"

namespace sift {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// numpy.quantile of the softmax, in the open.
double straightforward(std::vector<double> scores, double tau) {
  double sum = 0;
  for (const double s : scores) sum += std::exp(s);
  for (double& s : scores) s = std::exp(s) / sum;
  std::sort(scores.begin(), scores.end());
  const double position = static_cast<double>(scores.size() - 1) * tau;
  const auto lower = static_cast<std::size_t>(std::floor(position));
  const std::size_t upper = std::min(lower + 1, scores.size() - 1);
  const double fraction = position - std::floor(position);
  return std::log(scores[lower] * (1 - fraction) + scores[upper] * fraction);
}

double log_sum_exp(const std::vector<double>& scores) {
  double sum = 0;
  for (const double s : scores) sum += std::exp(s);
  return std::log(sum);
}

TEST(QuantilePosition, FollowsNumPy) {
  const QuantilePosition middle = quantile_position(4, 0.5);
  EXPECT_EQ(middle.lower, 1);
  EXPECT_DOUBLE_EQ(middle.fraction, 0.5);
  const QuantilePosition exact = quantile_position(5, 0.25);
  EXPECT_EQ(exact.lower, 1);
  EXPECT_DOUBLE_EQ(exact.fraction, 0);
  EXPECT_EQ(quantile_position(1, 0.875).lower, 0);
  EXPECT_EQ(quantile_position(1, 0.875).fraction, 0);
  EXPECT_EQ(quantile_position(2, 0.875).lower, 0);
  EXPECT_DOUBLE_EQ(quantile_position(2, 0.875).fraction, 0.875);
}

TEST(QuantilePosition, AlwaysLeavesAnUpperStatistic) {
  for (const std::int64_t count : {2, 3, 5, 1000, 1 << 30}) {
    const QuantilePosition last = quantile_position(count, 1);
    EXPECT_EQ(last.lower, count - 2);
    EXPECT_EQ(last.fraction, 1);
    EXPECT_LE(quantile_position(count, std::nextafter(1.0, 0.0)).lower, count - 2);
  }
}

TEST(Quantile, EqualsHandComputation) {
  // Softmax 0.1, 0.2, 0.3, 0.4: the median is 0.25, the 0.875-quantile 0.3625.
  const std::vector<double> logs = {std::log(0.3), std::log(0.1), std::log(0.4), std::log(0.2)};
  for (const double shift : {0.0, 700.0, -700.0}) {
    std::vector<double> scores = logs;
    for (double& s : scores) s += shift;
    std::vector<double> copy = scores;
    EXPECT_NEAR(std::exp(ln_softmax_quantile(std::span(copy), shift, 0.5)), 0.25, 1e-12);
    copy = scores;
    EXPECT_NEAR(std::exp(ln_softmax_quantile(std::span(copy), shift, 0.875)), 0.3625, 1e-12);
  }
}

TEST(Quantile, EqualsStraightforwardComputation) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(0, 2);
  for (const std::size_t count : {1u, 2u, 3u, 8u, 9u, 100u, 1001u}) {
    for (const double tau : {0.001, 0.25, 0.5, 0.875, 0.95, 0.999}) {
      std::vector<double> scores(count);
      for (double& s : scores) s = static_cast<float>(normal(random));
      const double expected = straightforward(scores, tau);
      const double lse = log_sum_exp(scores);
      std::vector<float> floats(scores.begin(), scores.end());
      EXPECT_NEAR(ln_softmax_quantile(std::span(scores), lse, tau), expected, 1e-12);
      EXPECT_NEAR(ln_softmax_quantile(std::span(floats), lse, tau), expected, 1e-12);
    }
  }
}

TEST(Quantile, TakesTies) {
  for (const double tau : {0.1, 0.5, 0.875}) {
    std::vector<float> equal(37, 1.25F);
    const double lse = 1.25 + std::log(37.0);
    EXPECT_DOUBLE_EQ(ln_softmax_quantile(std::span(equal), lse, tau), 1.25 - lse);
    std::vector<double> tied = {0, 1, 1, 1, 1, 0, 2, 2, 2};
    const double expected = straightforward(tied, tau);
    const double tied_lse = log_sum_exp(tied);
    EXPECT_NEAR(ln_softmax_quantile(std::span(tied), tied_lse, tau), expected, 1e-12);
  }
}

TEST(Quantile, OneKeyHasAllMass) {
  std::vector<float> one = {-3.5F};
  EXPECT_EQ(ln_softmax_quantile(std::span(one), -3.5, 0.875), 0);
}

TEST(Quantile, UnderflowHasAFloor) {
  std::vector<double> scores = {0, -500, -500, -500};
  EXPECT_EQ(ln_softmax_quantile(std::span(scores), 0, 0.5), kLnThetaFloor);
  EXPECT_EQ(ln_interpolated_quantile(-kInfinity, -kInfinity, 0.5, 0), kLnThetaFloor);
  EXPECT_EQ(ln_interpolated_quantile(-kInfinity, 0, 0, 0), kLnThetaFloor);
  EXPECT_NEAR(ln_interpolated_quantile(-kInfinity, -1, 0.25, 2), std::log(0.25) - 3, 1e-12);
}

TEST(RawQuantile, InterpolatesBetweenScores) {
  std::vector<double> scores = {3, -1, 2, 0};
  EXPECT_DOUBLE_EQ(raw_quantile(std::span(scores), 0.5), 1);  // between 0 and 2
  EXPECT_DOUBLE_EQ(raw_quantile(std::span(scores), 0.875), 2.625);
  EXPECT_DOUBLE_EQ(raw_quantile(std::span(scores), 0.0), -1);
  EXPECT_DOUBLE_EQ(raw_quantile(std::span(scores), 1.0), 3);
  std::vector<float> one = {-7};
  EXPECT_EQ(raw_quantile(std::span(one), 0.3), -7);
  std::vector<double> low = {-kInfinity, -kInfinity, 5};
  EXPECT_EQ(raw_quantile(std::span(low), 0.5), -kInfinity);
  EXPECT_EQ(raw_quantile(std::span(low), 0.75), -kInfinity);  // beside one
  EXPECT_EQ(raw_quantile(std::span(low), 1.0), 5);
}

TEST(Quantile, SeveralLevelsAtOnceEqualEachByItself) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const std::vector<double> levels = {0.01, 0.5, 0.5001, 0.75, 0.875, 0.99, 1};
  for (const int count : {1, 2, 3, 4, 5, 17, 100, 1000}) {
    for (const bool ties : {false, true}) {
      std::vector<float> scores(count);
      for (float& score : scores) score = ties ? std::round(normal(random)) : normal(random);
      std::vector<float> copy = scores;
      std::vector<double> all(levels.size());
      ln_softmax_quantiles(copy, 1.5, levels, all);
      for (std::size_t i = 0; i < levels.size(); ++i) {
        copy = scores;
        EXPECT_EQ(all[i], ln_softmax_quantile(copy, 1.5, levels[i])) << count << " " << levels[i];
      }
    }
  }
}

}  // namespace
}  // namespace sift
