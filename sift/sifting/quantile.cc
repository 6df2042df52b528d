#include "sift/sifting/quantile.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sift/sifting/power_law.h"

namespace sift {
namespace {

template <class Float>
double select_quantile(std::span<Float> scores, double log_sum_exp, double tau) {
  const QuantilePosition at = quantile_position(static_cast<std::int64_t>(scores.size()), tau);
  const auto lower = scores.begin() + at.lower;
  std::nth_element(scores.begin(), lower, scores.end());
  // Everything behind `lower` is at least as large, so the next order statistic is its minimum.
  const auto upper = at.fraction > 0 ? std::min_element(lower + 1, scores.end()) : lower;
  return ln_interpolated_quantile(*lower, *upper, at.fraction, log_sum_exp);
}

}  // namespace

QuantilePosition quantile_position(std::int64_t count, double tau) {
  if (count == 1) return {};
  const double position = static_cast<double>(count - 1) * tau;
  // tau = 1 still leaves a statistic above `lower`.
  const std::int64_t lower = std::min(static_cast<std::int64_t>(position), count - 2);
  return {lower, position - static_cast<double>(lower)};
}

double ln_softmax_quantile(std::span<float> scores, double log_sum_exp, double tau) {
  return select_quantile(scores, log_sum_exp, tau);
}

double ln_softmax_quantile(std::span<double> scores, double log_sum_exp, double tau) {
  return select_quantile(scores, log_sum_exp, tau);
}

double ln_interpolated_quantile(double lower_score, double upper_score, double fraction,
                                double log_sum_exp) {
  double ln_quantile = lower_score - log_sum_exp;
  if (fraction > 0 && upper_score > -std::numeric_limits<double>::infinity()) {
    // ln((1 − f) e^l + f e^u), with the larger exponential taken out.
    const double ratio = std::exp(lower_score - upper_score);
    ln_quantile = upper_score - log_sum_exp + std::log(fraction + (1 - fraction) * ratio);
  }
  return std::max(ln_quantile, kLnThetaFloor);
}

}  // namespace sift
