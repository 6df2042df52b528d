#include "sift/sifting/power_law.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace sift {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Record {
  std::int64_t keys;
  double ln_theta;
};

LogLogFit fit_of(const std::vector<Record>& records) {
  LogLogFit fit;
  for (const Record& record : records) fit.add(record.keys, record.ln_theta);
  return fit;
}

// Records of α S^(−β) with Gaussian residuals in ln θ.
std::vector<Record> noisy_law(std::int64_t first, std::int64_t step, int count, double ln_alpha,
                              double beta, double deviation, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(0, deviation);
  std::vector<Record> records;
  for (int i = 0; i < count; ++i) {
    const std::int64_t keys = first + step * i;
    records.push_back({keys, ln_alpha - beta * std::log(double(keys)) + noise(random)});
  }
  return records;
}

// The textbook computation, in two passes and wider arithmetic.
struct TwoPass {
  double beta, ln_alpha, r_squared, slope_error, variance, sxx, mean_x, mean_y;
};
TwoPass two_pass(const std::vector<Record>& records) {
  long double mean_x = 0, mean_y = 0, sxx = 0, sxy = 0, syy = 0;
  for (const Record& r : records) {
    mean_x += std::log((long double)r.keys) / records.size();
    mean_y += (long double)r.ln_theta / records.size();
  }
  for (const Record& r : records) {
    const long double x = std::log((long double)r.keys) - mean_x, y = r.ln_theta - mean_y;
    sxx += x * x;
    sxy += x * y;
    syy += y * y;
  }
  const long double slope = sxy / sxx;
  long double squares = 0;
  for (const Record& r : records) {
    const long double error =
        r.ln_theta - mean_y - slope * (std::log((long double)r.keys) - mean_x);
    squares += error * error;
  }
  const long double variance = squares / (records.size() - 2);
  return {double(-slope),
          double(mean_y - slope * mean_x),
          double(1 - squares / syy),
          double(std::sqrt(variance / sxx)),
          double(variance),
          double(sxx),
          double(mean_x),
          double(mean_y)};
}

TEST(PowerLaw, PredictsTheThreshold) {
  PowerLaw law;
  law.ln_alpha = std::log(0.5);
  law.beta = 2;
  EXPECT_NEAR(law.ln_threshold(10), std::log(0.005), 1e-15);
  EXPECT_DOUBLE_EQ(law.ln_threshold(1), std::log(0.5));
}

TEST(LogLogFit, RecoversAnExactLaw) {
  for (const FitKind kind : {FitKind::ols, FitKind::ridge}) {
    const PowerLaw law = fit_of(noisy_law(17, 3, 50, -0.7, 1.3, 0, 0)).solve(kind);
    EXPECT_NEAR(law.beta, 1.3, 1e-9);
    EXPECT_NEAR(law.ln_alpha, -0.7, 1e-8);
    EXPECT_FALSE(law.degenerate);
    EXPECT_FALSE(law.ill_determined);
  }
  EXPECT_NEAR(fit_of(noisy_law(17, 3, 50, -0.7, 1.3, 0, 0)).r_squared(), 1, 1e-12);
}

TEST(LogLogFit, EqualsTheTwoPassComputation) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    // The last prompts move ln S by a thousandth only.
    for (const std::int64_t first : {1, 17, 3001, 30001, 1000001}) {
      const auto records = noisy_law(first, 1, 128, 0.4, 0.9, 0.2, seed);
      const LogLogFit fit = fit_of(records);
      const PowerLaw law = fit.solve(FitKind::ols);
      const TwoPass expected = two_pass(records);
      const double tolerance = 1e-9 * (1 + expected.slope_error);
      EXPECT_NEAR(law.beta, expected.beta, tolerance) << first;
      EXPECT_NEAR(law.ln_alpha, expected.ln_alpha, 20 * tolerance) << first;
      EXPECT_NEAR(fit.r_squared(), expected.r_squared, 1e-9) << first;
      EXPECT_EQ(law.ill_determined, expected.slope_error > 0.5) << first;
      EXPECT_EQ(fit.solve(FitKind::ridge).ill_determined, law.ill_determined);
    }
  }
}

TEST(LogLogFit, RidgeMinimisesItsObjective) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (const std::int64_t first : {2, 17, 301, 3001}) {
      const auto records = noisy_law(first, 1, 40, 0.4, 1.2, 0.3, seed);
      const TwoPass line = two_pass(records);
      const auto objective = [&](double beta) {
        double squares = 0;
        for (const Record& r : records) {
          const double x = std::log(double(r.keys)) - line.mean_x;
          squares += std::pow(r.ln_theta - line.mean_y + beta * x, 2);
        }
        return squares / line.variance + std::pow((beta - 1) / 0.5, 2);
      };
      const PowerLaw law = fit_of(records).solve(FitKind::ridge);
      for (const double other : {law.beta - 1e-3, law.beta + 1e-3}) {
        if (other < 0 || other > 2) continue;
        EXPECT_GT(objective(other), objective(law.beta)) << first;
      }
      // The line runs through the centroid.
      EXPECT_NEAR(law.ln_alpha - law.beta * line.mean_x, line.mean_y, 1e-9);
    }
  }
}

TEST(LogLogFit, RidgeIsClamped) {
  EXPECT_EQ(fit_of(noisy_law(1, 1, 60, 0, -0.5, 0.01, 1)).solve(FitKind::ridge).beta, 0);
  EXPECT_EQ(fit_of(noisy_law(1, 1, 60, 0, 3.0, 0.01, 1)).solve(FitKind::ridge).beta, 2);
  EXPECT_NEAR(fit_of(noisy_law(1, 1, 60, 0, 3.0, 0.01, 1)).solve(FitKind::ols).beta, 3, 0.05);
}

TEST(LogLogFit, RidgeDrawsTowardTheSlopeThatItIsTold) {
  // Records times S have a slope lower by 1, and so has the uniform law.
  for (const double beta : {-0.5, 0.4, 1.2, 3.0}) {
    const auto records = noisy_law(301, 1, 40, 0.4, beta, 0.3, 7);
    std::vector<Record> times_keys = records;
    for (Record& r : times_keys) r.ln_theta += std::log(double(r.keys));
    const PowerLaw law = fit_of(records).solve(FitKind::ridge);
    LogLogFit fit;
    for (const Record& r : times_keys) fit.add(r.keys, r.ln_theta, -kInfinity);
    const PowerLaw shifted = fit.solve(FitKind::ridge, 0);
    EXPECT_NEAR(shifted.beta, law.beta - 1, 1e-9) << beta;
    EXPECT_NEAR(shifted.ln_alpha, law.ln_alpha, 1e-8) << beta;
  }
}

TEST(LogLogFit, TwoRecordsUseTheAssumedResidual) {
  const LogLogFit fit = fit_of({{100, -4}, {200, -4.2}});
  const double least_squares = 0.2 / std::log(2.0);
  EXPECT_NEAR(fit.solve(FitKind::ols).beta, least_squares, 1e-12);
  const double sxx = std::pow(std::log(2.0), 2) / 2;
  // 0.2² / 0.5² = 0.16 is the weight of the prior.
  EXPECT_NEAR(fit.solve(FitKind::ridge).beta, (sxx * least_squares + 0.16) / (sxx + 0.16), 1e-12);
  EXPECT_FALSE(fit.solve(FitKind::ridge).ill_determined);  // 0.2 / 0.49
  EXPECT_TRUE(fit_of({{100, -4}, {110, -4.2}}).solve(FitKind::ols).ill_determined);
}

void expect_degenerate(const LogLogFit& fit, double ln_alpha) {
  for (const FitKind kind : {FitKind::ols, FitKind::ridge}) {
    const PowerLaw law = fit.solve(kind);
    EXPECT_TRUE(law.degenerate);
    EXPECT_FALSE(law.ill_determined);
    EXPECT_EQ(law.beta, 0);
    EXPECT_NEAR(law.ln_alpha, ln_alpha, 1e-12);
    EXPECT_NEAR(law.ln_threshold(12345), ln_alpha, 1e-12);
  }
  EXPECT_TRUE(std::isnan(fit.r_squared()));
}

TEST(LogLogFit, DegenerateFitsKeepTheMean) {
  expect_degenerate(LogLogFit(), 0);
  expect_degenerate(fit_of({{100, -5}}), -5);
  expect_degenerate(fit_of({{100, -5}, {100, -6}, {100, -7}}), -6);          // one distinct S
  expect_degenerate(fit_of({{100, -5.1}, {101, -5.1}, {977, -5.1}}), -5.1);  // all θ equal
  for (const double bad : {kNaN, kInfinity}) {
    expect_degenerate(fit_of({{100, -5}, {101, bad}, {102, -6}}), -5.5);
    expect_degenerate(fit_of({{100, bad}, {101, -5}, {102, -6}}), -5.5);
    expect_degenerate(fit_of({{100, bad}, {101, bad}}), 0);
  }
}

TEST(LogLogFit, ZeroQuantilesHaveAFloor) {
  EXPECT_NEAR(kLnThetaFloor, std::log(double(FLT_MIN)), 1e-13);
  expect_degenerate(fit_of({{100, -kInfinity}, {101, -kInfinity}}), kLnThetaFloor);
  const PowerLaw law = fit_of({{1, 0}, {8, -kInfinity}}).solve(FitKind::ols);
  EXPECT_NEAR(law.beta, -kLnThetaFloor / std::log(8.0), 1e-12);
}

TEST(LogLogFit, TakesTheFloorThatItIsTold) {
  LogLogFit fit;
  fit.add(1, -100, -kInfinity);
  fit.add(8, -300, -200);
  const PowerLaw law = fit.solve(FitKind::ols);
  EXPECT_NEAR(law.ln_alpha, -100, 1e-9);
  EXPECT_NEAR(law.ln_threshold(8), -200, 1e-9);
}

// Root mean square error of ln η at twice the length, over seeds.
double extrapolation_error(FitKind kind, std::int64_t prompt, double beta) {
  double squares = 0;
  const int seeds = 200;
  for (int seed = 0; seed < seeds; ++seed) {
    const auto records = noisy_law(prompt + 1, 1, 128, 0, beta, 0.2, seed);
    const std::int64_t keys = 2 * (prompt + 128);
    const double error =
        fit_of(records).solve(kind).ln_threshold(keys) + beta * std::log(double(keys));
    squares += error * error;
  }
  return std::sqrt(squares / seeds);
}

TEST(LogLogFit, RidgeExtrapolatesFromLongPrompts) {
  for (const double beta : {0.5, 1.0, 1.3}) {
    EXPECT_LT(extrapolation_error(FitKind::ridge, 16, beta), 0.08) << beta;
    for (const std::int64_t prompt : {3000, 30000}) {
      const double ridge = extrapolation_error(FitKind::ridge, prompt, beta);
      // The prior's error of the slope, over ln 2, and little else.
      EXPECT_LT(ridge, std::abs(beta - 1) * std::log(2.0) + 0.15) << prompt << " " << beta;
      EXPECT_LT(2 * ridge, extrapolation_error(FitKind::ols, prompt, beta));
    }
  }
}

}  // namespace
}  // namespace sift
