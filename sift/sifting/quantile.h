#pragma once

#include <cstdint>
#include <span>

namespace sift {

/// Where the τ-quantile of `count` values lies: between order statistics `lower` and `lower + 1`
/// (ascending, from 0), `fraction` of the way (NumPy's and PyTorch's default interpolation). Both
/// statistics exist for two values or more; a single value has lower = 0 and fraction = 0.
struct QuantilePosition {
  std::int64_t lower = 0;
  double fraction = 0;
};
/// REQUIRES: count ≥ 1 and 0 ≤ tau ≤ 1.
QuantilePosition quantile_position(std::int64_t count, double tau);

/// ln of the τ-quantile of softmax(scores), given the scores' log-sum-exp (natural logarithms),
/// not below kLnThetaFloor. Interpolates between probabilities, not between logarithms.
/// Reorders `scores`. REQUIRES: scores is not empty and holds no NaN.
double ln_softmax_quantile(std::span<float> scores, double log_sum_exp, double tau);
double ln_softmax_quantile(std::span<double> scores, double log_sum_exp, double tau);

/// The same from the two order statistics around the position. A score of −∞ has probability 0.
/// REQUIRES: lower_score ≤ upper_score < +∞.
double ln_interpolated_quantile(double lower_score, double upper_score, double fraction,
                                double log_sum_exp);

}  // namespace sift
