#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "sift/core/host_device.h"
#include "sift/sifting/power_law.h"

namespace sift {

/// Where the τ-quantile of `count` values lies: between order statistics `lower` and `lower + 1`
/// (ascending, from 0), `fraction` of the way (NumPy's and PyTorch's default interpolation). Both
/// statistics exist for two values or more; a single value has lower = 0 and fraction = 0.
struct QuantilePosition {
  std::int64_t lower = 0;
  double fraction = 0;
};
/// REQUIRES: count ≥ 1 and 0 ≤ tau ≤ 1.
SIFT_HOST_DEVICE inline QuantilePosition quantile_position(std::int64_t count, double tau) {
  if (count == 1) return {};
  const double position = static_cast<double>(count - 1) * tau;
  const auto below = static_cast<std::int64_t>(position);
  // tau = 1 still leaves a statistic above `lower`.
  const std::int64_t lower = below < count - 2 ? below : count - 2;
  return {lower, position - static_cast<double>(lower)};
}

/// ln of the τ-quantile of softmax(scores), given the scores' log-sum-exp (natural logarithms),
/// not below kLnThetaFloor. Interpolates between probabilities, not between logarithms.
/// Reorders `scores`. REQUIRES: scores is not empty and holds no NaN.
double ln_softmax_quantile(std::span<float> scores, double log_sum_exp, double tau);
double ln_softmax_quantile(std::span<double> scores, double log_sum_exp, double tau);

/// The same for each of `levels` at once: ln_quantiles [levels]. REQUIRES: levels ascend.
void ln_softmax_quantiles(std::span<float> scores, double log_sum_exp,
                          std::span<const double> levels, std::span<double> ln_quantiles);

/// τ-quantile of the scores themselves, −∞ where it lies beside one. Reorders `scores`.
/// REQUIRES: scores is not empty and holds no NaN.
double raw_quantile(std::span<float> scores, double tau);
double raw_quantile(std::span<double> scores, double tau);

/// The same from the two order statistics around the position.
SIFT_HOST_DEVICE inline double interpolated_quantile(double lower_score, double upper_score,
                                                     double fraction) {
  if (fraction == 0) return lower_score;  // 0 times −∞ would be NaN
  if (fraction == 1) return upper_score;
  return (1 - fraction) * lower_score + fraction * upper_score;
}

/// ln of the quantile of the softmax from the two. A score of −∞ has probability 0.
/// REQUIRES: lower_score ≤ upper_score < +∞.
SIFT_HOST_DEVICE inline double ln_interpolated_quantile(double lower_score, double upper_score,
                                                        double fraction, double log_sum_exp) {
  double ln_quantile = lower_score - log_sum_exp;
  if (fraction > 0 && upper_score > -HUGE_VAL) {
    // ln((1 − f) e^l + f e^u), with the larger exponential taken out.
    const double ratio = std::exp(lower_score - upper_score);
    ln_quantile = upper_score - log_sum_exp + std::log(fraction + (1 - fraction) * ratio);
  }
  // Written so that NaN stays NaN, which a fit refuses.
  return ln_quantile < kLnThetaFloor ? kLnThetaFloor : ln_quantile;
}

}  // namespace sift
