#include "sift/sifting/record_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace sift {
namespace {

using Records = std::vector<QuantileRecord>;

LogLogFit sums_of(const Records& records) {
  LogLogFit sums;
  for (const QuantileRecord& record : records) sums.add(record.keys, record.ln_theta, -HUGE_VAL);
  return sums;
}

OffsetPowerLaw fit(FitKind kind, const Records& records) {
  return fit_records(kind, sums_of(records), records);
}

// Records of α S^(−β) with Gaussian residuals in ln θ.
Records noisy_law(std::int64_t first, std::int64_t step, int count, double ln_alpha, double beta,
                  double deviation, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(0, deviation);
  Records records;
  for (int i = 0; i < count; ++i) {
    const std::int64_t keys = first + step * i;
    records.push_back({keys, ln_alpha - beta * std::log(double(keys)) + noise(random)});
  }
  return records;
}

double sorted_median(std::vector<long double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return double((values[(n - 1) / 2] + values[n / 2]) / 2);
}

// The definition, with every list sorted.
PowerLaw plain_repeated_medians(const Records& records) {
  std::vector<long double> medians;
  for (const QuantileRecord& a : records) {
    std::vector<long double> slopes;
    for (const QuantileRecord& b : records) {
      if (a.keys == b.keys) continue;
      slopes.push_back((b.ln_theta - a.ln_theta) /
                       (std::log((long double)b.keys) - std::log((long double)a.keys)));
    }
    medians.push_back(sorted_median(slopes));
  }
  PowerLaw law;
  law.beta = -sorted_median(medians);
  std::vector<long double> levels;
  for (const QuantileRecord& r : records) {
    levels.push_back(r.ln_theta + law.beta * std::log((long double)r.keys));
  }
  law.ln_alpha = sorted_median(levels);
  return law;
}

TEST(RobustFit, EqualsItsDefinition) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (const int count : {2, 3, 4, 31, 64}) {
      Records records = noisy_law(5, 3, count, 0.4, 0.9, 0.5, seed);
      records.push_back(records[seed % count]);  // a length that comes twice
      records.back().ln_theta -= 1;
      const PowerLaw expected = plain_repeated_medians(records);
      const OffsetPowerLaw law = fit(FitKind::robust, records);
      EXPECT_NEAR(law.power.beta, expected.beta, 1e-9) << count;
      EXPECT_NEAR(law.power.ln_alpha, expected.ln_alpha, 1e-8) << count;
      EXPECT_EQ(law.ln_offset, -HUGE_VAL);
      EXPECT_EQ(law.power.ill_determined, sums_of(records).solve(FitKind::ols).ill_determined);
    }
  }
}

TEST(RobustFit, OutliersDoNotTurnTheSlope) {
  for (const int outliers : {1, 15, 25}) {
    Records records = noisy_law(17, 5, 60, -0.3, 1.1, 0.01, 3);
    for (int i = 0; i < outliers; ++i) records[60 - 1 - i].ln_theta += 4;  // all on one side
    const PowerLaw robust = fit(FitKind::robust, records).power;
    EXPECT_NEAR(robust.beta, 1.1, 0.1) << outliers;
    EXPECT_GT(std::abs(sums_of(records).solve(FitKind::ols).beta - 1.1), outliers > 1 ? 1 : 0.1);
  }
}

TEST(OffsetFit, RecoversAnExactFloor) {
  for (const int step : {0, 1, 16, 40, 63}) {
    // γ is `step`/64 of the least θ, which has the most keys.
    Records records;
    const double least_power = std::exp(-0.5 - 1.4 * std::log(17.0 + 3 * 49));
    const double offset = least_power * step / (64.0 - step);
    for (int i = 0; i < 50; ++i) {
      const std::int64_t keys = 17 + 3 * i;
      const double power = std::exp(-0.5 - 1.4 * std::log(double(keys)));
      records.push_back({keys, std::log(power + offset)});
    }
    const OffsetPowerLaw law = fit(FitKind::offset, records);
    EXPECT_NEAR(law.power.beta, 1.4, 1e-6) << step;
    EXPECT_NEAR(law.power.ln_alpha, -0.5, 1e-5) << step;
    EXPECT_NEAR(std::exp(law.ln_offset), offset, 1e-9) << step;
    for (const QuantileRecord& record : records) {
      EXPECT_NEAR(law.ln_threshold(record.keys), record.ln_theta, 1e-9) << step;
    }
    const double far = std::exp(-0.5 - 1.4 * std::log(1e6)) + offset;
    EXPECT_NEAR(law.ln_threshold(1'000'000), std::log(far), 1e-5) << step;
  }
}

// Every γ of the definition in turn, in θ rather than in ln θ.
double least_squared_error(const Records& records) {
  double least = HUGE_VAL;
  for (const QuantileRecord& r : records) least = std::min(least, std::exp(r.ln_theta));
  double best = HUGE_VAL;
  for (int step = 0; step < 64; ++step) {
    const double offset = least * step / 64;
    LogLogFit rest;
    for (const QuantileRecord& r : records) {
      rest.add(r.keys, std::log(std::exp(r.ln_theta) - offset));
    }
    const PowerLaw law = rest.solve(FitKind::ols);
    double squares = 0;
    for (const QuantileRecord& r : records) {
      const double theta = std::exp(law.ln_threshold(r.keys)) + offset;
      squares += std::pow(std::log(theta) - r.ln_theta, 2);
    }
    best = std::min(best, squares);
  }
  return best;
}

double squared_error(const OffsetPowerLaw& law, const Records& records) {
  double squares = 0;
  for (const QuantileRecord& r : records) {
    squares += std::pow(law.ln_threshold(r.keys) - r.ln_theta, 2);
  }
  return squares;
}

TEST(OffsetFit, IsTheBestOfItsGridAndNoWorseThanLeastSquares) {
  int with_offset = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Records records = noisy_law(3, 2, 40, 0.2, 1.2, 0.1, seed);
    for (QuantileRecord& r : records) r.ln_theta = std::log(std::exp(r.ln_theta) + 0.01);
    const OffsetPowerLaw law = fit(FitKind::offset, records);
    const double error = squared_error(law, records);
    EXPECT_NEAR(error, least_squared_error(records), 1e-9);
    EXPECT_LE(error, squared_error({sums_of(records).solve(FitKind::ols)}, records));
    with_offset += law.ln_offset > -HUGE_VAL ? 1 : 0;
  }
  EXPECT_GT(with_offset, 20);
}

TEST(OffsetFit, RangesThatExponentialsDoNotHaveAreFine) {
  // Raw scores are recorded as they are: here from 900 down to −900.
  Records records;
  for (int i = 0; i < 20; ++i) {
    records.push_back({10 + i, 900 - 2000 * (std::log(10.0 + i) - std::log(10.0))});
  }
  const OffsetPowerLaw law = fit(FitKind::offset, records);
  for (const QuantileRecord& r : records) {
    EXPECT_NEAR(law.ln_threshold(r.keys), r.ln_theta, 1e-6);
  }
}

TEST(RecordFits, DegenerateRecordsHaveTheLawOfTheirSums) {
  for (const FitKind kind : {FitKind::robust, FitKind::offset}) {
    for (const Records& records : {Records{}, Records{{100, -5}}, Records{{100, -5}, {100, -7}},
                                   Records{{100, -5}, {101, -5}}}) {
      const OffsetPowerLaw law = fit(kind, records);
      const PowerLaw expected = sums_of(records).solve(FitKind::ols);
      EXPECT_TRUE(law.power.degenerate);
      EXPECT_EQ(law.power.beta, 0);
      EXPECT_EQ(law.power.ln_alpha, expected.ln_alpha);
      EXPECT_EQ(law.ln_threshold(12345), expected.ln_alpha);
    }
    LogLogFit refused = sums_of({{100, -5}, {101, -6}});
    refused.add(102, std::nan(""));
    EXPECT_TRUE(fit_records(kind, refused, Records{{100, -5}, {101, -6}}).power.degenerate);
  }
}

}  // namespace
}  // namespace sift
