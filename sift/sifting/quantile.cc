#include "sift/sifting/quantile.h"

#include <algorithm>

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

double ln_softmax_quantile(std::span<float> scores, double log_sum_exp, double tau) {
  return select_quantile(scores, log_sum_exp, tau);
}

double ln_softmax_quantile(std::span<double> scores, double log_sum_exp, double tau) {
  return select_quantile(scores, log_sum_exp, tau);
}

}  // namespace sift
