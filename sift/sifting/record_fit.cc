#include "sift/sifting/record_fit.h"

#include <algorithm>
#include <vector>

namespace sift {
namespace {

constexpr int kOffsetSteps = 64;

/// Reorders `values`. REQUIRES: there are some.
double median(std::vector<double>& values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

/// Median of the slopes of ln θ on ln S from record `from` to those of other lengths, of which
/// there are some.
double median_slope_from(std::size_t from, std::span<const double> ln_keys,
                         std::span<const QuantileRecord> records, std::vector<double>& slopes) {
  slopes.clear();
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (records[i].keys == records[from].keys) continue;
    slopes.push_back((records[i].ln_theta - records[from].ln_theta) / (ln_keys[i] - ln_keys[from]));
  }
  return median(slopes);
}

PowerLaw repeated_medians(PowerLaw law, std::span<const QuantileRecord> records) {
  std::vector<double> ln_keys;
  for (const QuantileRecord& record : records) {
    ln_keys.push_back(std::log(static_cast<double>(record.keys)));
  }
  std::vector<double> slopes;
  std::vector<double> medians;
  for (std::size_t i = 0; i < records.size(); ++i) {
    medians.push_back(median_slope_from(i, ln_keys, records, slopes));
  }
  law.beta = -median(medians);
  std::vector<double> levels;
  for (std::size_t i = 0; i < records.size(); ++i) {
    levels.push_back(records[i].ln_theta + law.beta * ln_keys[i]);
  }
  law.ln_alpha = median(levels);
  return law;
}

/// Least squares of ln(θ − γ) on ln S with γ = share · θ_least.
OffsetPowerLaw fit_above(double share, double ln_least, std::span<const QuantileRecord> records) {
  LogLogFit rest;
  for (const QuantileRecord& record : records) {
    const double ln_rest =
        record.ln_theta + std::log1p(-share * std::exp(ln_least - record.ln_theta));
    rest.add(record.keys, ln_rest, -HUGE_VAL);
  }
  return {rest.solve(FitKind::ols), std::log(share) + ln_least};
}

double squared_error(const OffsetPowerLaw& law, std::span<const QuantileRecord> records) {
  double sum = 0;
  for (const QuantileRecord& record : records) {
    const double error = record.ln_theta - law.ln_threshold(record.keys);
    sum += error * error;
  }
  return sum;
}

OffsetPowerLaw best_offset(std::span<const QuantileRecord> records) {
  const double ln_least = std::ranges::min(records, {}, &QuantileRecord::ln_theta).ln_theta;
  OffsetPowerLaw best = fit_above(0, ln_least, records);
  double least_error = squared_error(best, records);
  for (int step = 1; step < kOffsetSteps; ++step) {
    const OffsetPowerLaw law =
        fit_above(static_cast<double>(step) / kOffsetSteps, ln_least, records);
    const double error = squared_error(law, records);
    if (!(error < least_error)) continue;
    best = law;
    least_error = error;
  }
  return best;
}

}  // namespace

double OffsetPowerLaw::ln_threshold(std::int64_t keys) const {
  const double ln_power = power.ln_threshold(keys);
  if (ln_offset == -HUGE_VAL) return ln_power;
  const double higher = std::fmax(ln_power, ln_offset);
  return higher + std::log1p(std::exp(std::fmin(ln_power, ln_offset) - higher));
}

OffsetPowerLaw fit_records(FitKind kind, const LogLogFit& sums,
                           std::span<const QuantileRecord> records) {
  const PowerLaw least_squares = sums.solve(FitKind::ols);
  if (least_squares.degenerate) return {least_squares};
  if (kind == FitKind::robust) return {repeated_medians(least_squares, records)};
  return best_offset(records);
}

}  // namespace sift
