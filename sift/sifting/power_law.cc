#include "sift/sifting/power_law.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sift {
namespace {

// Sums about the means of the records. Each value is exactly zero when all its summands are equal,
// because records are shifted by the first one.
struct CentredSums {
  double mean_x, mean_y;  // shifted
  double sxx, sxy, syy;
};

CentredSums centre(const LogLogFit& fit) {
  const double mean_x = fit.sum_x / fit.count;
  const double mean_y = fit.sum_y / fit.count;
  return {mean_x, mean_y, fit.sum_xx - fit.sum_x * mean_x, fit.sum_xy - fit.sum_x * mean_y,
          fit.sum_yy - fit.sum_y * mean_y};
}

bool has_slope(const LogLogFit& fit, const CentredSums& sums) {
  return fit.refused == 0 && fit.count >= 2 && sums.sxx > 0 && sums.syy > 0;
}

// Variance of ln θ about the least-squares line, n − 2 degrees of freedom.
double residual_variance(double count, const CentredSums& sums) {
  if (count < 3) return kAssumedResidual * kAssumedResidual;
  const double squares = sums.syy - sums.sxy * sums.sxy / sums.sxx;
  return std::max(squares, 0.0) / (count - 2);
}

// argmin over β of SSE(β) / σ² + ((β − 1) / prior deviation)², where
// SSE(β) = SSE(least squares) + sxx (β − least squares)².
double ridge_slope(double least_squares, double sxx, double variance) {
  const double prior = variance / (kSlopePriorDeviation * kSlopePriorDeviation);
  return std::clamp((sxx * least_squares + prior) / (sxx + prior), 0.0, 2.0);
}

}  // namespace

double PowerLaw::ln_threshold(std::int64_t keys) const {
  return ln_alpha - beta * std::log(static_cast<double>(keys));
}

void LogLogFit::add(std::int64_t keys, double ln_theta) {
  // −∞ is a quantile of zero, which has the floor.
  if (std::isnan(ln_theta) || ln_theta == std::numeric_limits<double>::infinity()) {
    refused += 1;
    return;
  }
  const double ln_keys = std::log(static_cast<double>(keys));
  const double clamped = std::max(ln_theta, kLnThetaFloor);
  if (count == 0) {
    first_x = ln_keys;
    first_y = clamped;
  }
  const double x = ln_keys - first_x;
  const double y = clamped - first_y;
  count += 1;
  sum_x += x;
  sum_y += y;
  sum_xx += x * x;
  sum_xy += x * y;
  sum_yy += y * y;
}

PowerLaw LogLogFit::solve(FitKind kind) const {
  PowerLaw law;
  law.degenerate = true;
  if (count == 0) return law;
  const CentredSums sums = centre(*this);
  law.ln_alpha = first_y + sums.mean_y;
  if (!has_slope(*this, sums)) return law;

  law.degenerate = false;
  const double variance = residual_variance(count, sums);
  law.ill_determined = std::sqrt(variance / sums.sxx) > kIllDeterminedSlopeError;
  law.beta = -sums.sxy / sums.sxx;
  if (kind == FitKind::ridge) law.beta = ridge_slope(law.beta, sums.sxx, variance);
  law.ln_alpha += law.beta * (first_x + sums.mean_x);
  return law;
}

double LogLogFit::r_squared() const {
  if (count == 0) return std::numeric_limits<double>::quiet_NaN();
  const CentredSums sums = centre(*this);
  if (!has_slope(*this, sums)) return std::numeric_limits<double>::quiet_NaN();
  return std::min(sums.sxy * sums.sxy / (sums.sxx * sums.syy), 1.0);
}

}  // namespace sift
