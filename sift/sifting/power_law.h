#pragma once

#include <cstdint>

namespace sift {

/// How the power law is fitted to the recorded quantiles.
enum class FitKind : std::uint8_t {
  ols,    ///< ordinary least squares, the paper's (section 4.2)
  ridge,  ///< slope drawn toward 1 (uniform attention), clamped to [0, 2]
};

/// θ(S) = α S^(−β), predicted τ-quantile of the attention scores over S keys (paper, section 4.2).
struct PowerLaw {
  double ln_alpha = 0;
  double beta = 0;
  bool degenerate = false;      ///< no slope could be fitted: β is 0 and ln α the mean of ln θ
  bool ill_determined = false;  ///< the slope's standard error exceeds 0.5

  /// ln η at `keys` visible keys.
  double ln_threshold(std::int64_t keys) const;
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

  /// Takes one record: the quantile's logarithm over `keys` visible keys (≥ 1). A θ of zero is
  /// clamped to the smallest normal float. A record of NaN or +∞ makes the fit degenerate.
  void add(std::int64_t keys, double ln_theta);

  /// The power law of all records so far. It is degenerate, with β = 0 and ln α the mean of ln θ,
  /// when fewer than two distinct S were recorded, when all θ are equal, and when a record was
  /// refused. With no finite record it is θ = 1 everywhere (ln α = 0), degenerate.
  PowerLaw solve(FitKind kind) const;

  /// R² in log space of the least-squares line over the recorded points; NaN when degenerate.
  double r_squared() const;
};

/// ln of the smallest normal float: the floor of a recorded ln θ.
inline constexpr double kLnThetaFloor = -87.33654475055310;

/// Standard deviation of the ridge's prior on β around 1.
inline constexpr double kSlopePriorDeviation = 0.5;

/// Residual deviation of ln θ that is assumed where too few records tell one.
inline constexpr double kAssumedResidual = 0.2;

/// A slope with a larger standard error than this is counted as ill determined.
inline constexpr double kIllDeterminedSlopeError = 0.5;

}  // namespace sift
