#pragma once

#include <cmath>
#include <cstdint>

#include "sift/core/host_device.h"

namespace sift {

/// How the power law is fitted to the recorded quantiles. The first two need their sums only, the
/// others the records themselves (record_fit.h).
enum class FitKind : std::uint8_t {
  ols,     ///< ordinary least squares, the paper's (section 4.2)
  ridge,   ///< slope drawn toward that of uniform attention, and kept within 1 of it
  robust,  ///< repeated medians: a slope that outliers cannot turn
  offset,  ///< a power law with a floor, θ = α S^(−β) + γ
};

/// ln of the smallest normal float: the floor of a recorded ln θ.
inline constexpr double kLnThetaFloor = -87.33654475055310;

/// β of uniform attention, whose every score is 1/S.
inline constexpr double kUniformSlope = 1;

/// θ(S) = α S^(−β), predicted τ-quantile of the attention scores over S keys (paper, section 4.2).
struct PowerLaw {
  double ln_alpha = 0;
  double beta = 0;
  bool degenerate = false;      ///< no slope could be fitted: β is 0 and ln α the mean of ln θ
  bool ill_determined = false;  ///< the slope's standard error exceeds 0.5

  /// ln η at `keys` visible keys.
  SIFT_HOST_DEVICE double ln_threshold(std::int64_t keys) const;
};

/// Streaming least squares of ln θ on ln S: a fixed number of sums, so that the fit can live
/// beside the cache. Values are shifted by the first record, which keeps the sums well scaled.
struct LogLogFit {
  double count = 0;
  double sum_x = 0;  ///< x = ln S − first_x
  double sum_y = 0;  ///< y = ln θ − first_y
  double sum_xx = 0;
  double sum_xy = 0;
  double sum_yy = 0;  ///< beyond the five sums of the fit: gives its residual and R²
  double first_x = 0;
  double first_y = 0;
  double refused = 0;  ///< records of NaN or +∞, which the sums leave out

  /// Takes one record: the quantile's logarithm over `keys` visible keys (≥ 1). What is below
  /// `floor` is clamped to it: a θ of zero is the smallest normal float. A record of NaN or +∞
  /// makes the fit degenerate.
  SIFT_HOST_DEVICE void add(std::int64_t keys, double ln_theta, double floor = kLnThetaFloor);

  /// The power law of all records so far. It is degenerate, with β = 0 and ln α the mean of ln θ,
  /// when fewer than two distinct S were recorded, when all θ are equal, and when a record was
  /// refused. With no finite record it is θ = 1 everywhere (ln α = 0), degenerate. `prior_slope`:
  /// the β that the ridge draws to. REQUIRES: `kind` is ols or ridge.
  SIFT_HOST_DEVICE PowerLaw solve(FitKind kind, double prior_slope = kUniformSlope) const;

  /// R² in log space of the least-squares line over the recorded points; NaN when degenerate.
  double r_squared() const;
};

/// Standard deviation of the ridge's prior on β around its mean.
inline constexpr double kSlopePriorDeviation = 0.5;

/// Residual deviation of ln θ that is assumed where too few records tell one.
inline constexpr double kAssumedResidual = 0.2;

/// A slope with a larger standard error than this is counted as ill determined.
inline constexpr double kIllDeterminedSlopeError = 0.5;

// The definitions are here because devices run them too.

namespace fitting {

/// Sums about the means of the records. Each value is exactly zero when all its summands are equal,
/// because records are shifted by the first one.
struct CentredSums {
  double mean_x, mean_y;  // shifted
  double sxx, sxy, syy;
};

SIFT_HOST_DEVICE inline CentredSums centre(const LogLogFit& fit) {
  const double mean_x = fit.sum_x / fit.count;
  const double mean_y = fit.sum_y / fit.count;
  return {mean_x, mean_y, fit.sum_xx - fit.sum_x * mean_x, fit.sum_xy - fit.sum_x * mean_y,
          fit.sum_yy - fit.sum_y * mean_y};
}

SIFT_HOST_DEVICE inline bool has_slope(const LogLogFit& fit, const CentredSums& sums) {
  return fit.refused == 0 && fit.count >= 2 && sums.sxx > 0 && sums.syy > 0;
}

/// Variance of ln θ about the least-squares line, n − 2 degrees of freedom.
SIFT_HOST_DEVICE inline double residual_variance(double count, const CentredSums& sums) {
  if (count < 3) return kAssumedResidual * kAssumedResidual;
  const double squares = sums.syy - sums.sxy * sums.sxy / sums.sxx;
  return std::fmax(squares, 0.0) / (count - 2);
}

/// argmin over β of SSE(β) / σ² + ((β − prior slope) / prior deviation)², kept within 1 of the
/// prior slope, where SSE(β) = SSE(least squares) + sxx (β − least squares)².
SIFT_HOST_DEVICE inline double ridge_slope(double least_squares, double sxx, double variance,
                                           double prior_slope) {
  const double prior = variance / (kSlopePriorDeviation * kSlopePriorDeviation);
  const double slope = (sxx * least_squares + prior * prior_slope) / (sxx + prior);
  return std::fmin(std::fmax(slope, prior_slope - 1), prior_slope + 1);
}

}  // namespace fitting

SIFT_HOST_DEVICE inline double PowerLaw::ln_threshold(std::int64_t keys) const {
  return ln_alpha - beta * std::log(static_cast<double>(keys));
}

SIFT_HOST_DEVICE inline void LogLogFit::add(std::int64_t keys, double ln_theta, double floor) {
  // −∞ is a quantile of zero, which has the floor.
  if (!(ln_theta < HUGE_VAL)) {
    refused += 1;
    return;
  }
  const double ln_keys = std::log(static_cast<double>(keys));
  const double clamped = std::fmax(ln_theta, floor);
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

SIFT_HOST_DEVICE inline PowerLaw LogLogFit::solve(FitKind kind, double prior_slope) const {
  PowerLaw law;
  law.degenerate = true;
  if (count == 0) return law;
  const fitting::CentredSums sums = fitting::centre(*this);
  law.ln_alpha = first_y + sums.mean_y;
  if (!fitting::has_slope(*this, sums)) return law;

  law.degenerate = false;
  const double variance = fitting::residual_variance(count, sums);
  law.ill_determined = std::sqrt(variance / sums.sxx) > kIllDeterminedSlopeError;
  law.beta = -sums.sxy / sums.sxx;
  if (kind == FitKind::ridge) {
    law.beta = fitting::ridge_slope(law.beta, sums.sxx, variance, prior_slope);
  }
  law.ln_alpha += law.beta * (first_x + sums.mean_x);
  return law;
}

}  // namespace sift
