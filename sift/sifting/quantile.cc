#include "sift/sifting/quantile.h"

#include <algorithm>

namespace sift {
namespace {

struct Neighbours {
  double lower, upper, fraction;
};

/// REQUIRES: the first `sorted_before` scores are no larger than the others, and τ's position is
/// not below it. Afterwards the same holds for `sorted_before` at that position.
template <class Float>
Neighbours select_neighbours(std::span<Float> scores, double tau, std::int64_t& sorted_before) {
  const QuantilePosition at = quantile_position(static_cast<std::int64_t>(scores.size()), tau);
  const auto lower = scores.begin() + at.lower;
  std::nth_element(scores.begin() + sorted_before, lower, scores.end());
  sorted_before = at.lower;
  // Everything behind `lower` is at least as large, so the next order statistic is its minimum.
  const auto upper = at.fraction > 0 ? std::min_element(lower + 1, scores.end()) : lower;
  return {*lower, *upper, at.fraction};
}

template <class Float>
double select_quantile(std::span<Float> scores, double log_sum_exp, double tau,
                       std::int64_t& sorted_before) {
  const auto [lower, upper, fraction] = select_neighbours(scores, tau, sorted_before);
  return ln_interpolated_quantile(lower, upper, fraction, log_sum_exp);
}

template <class Float>
double select_raw_quantile(std::span<Float> scores, double tau) {
  std::int64_t sorted_before = 0;
  const auto [lower, upper, fraction] = select_neighbours(scores, tau, sorted_before);
  return interpolated_quantile(lower, upper, fraction);
}

}  // namespace

double ln_softmax_quantile(std::span<float> scores, double log_sum_exp, double tau) {
  std::int64_t sorted_before = 0;
  return select_quantile(scores, log_sum_exp, tau, sorted_before);
}

double ln_softmax_quantile(std::span<double> scores, double log_sum_exp, double tau) {
  std::int64_t sorted_before = 0;
  return select_quantile(scores, log_sum_exp, tau, sorted_before);
}

void ln_softmax_quantiles(std::span<float> scores, double log_sum_exp,
                          std::span<const double> levels, std::span<double> ln_quantiles) {
  std::int64_t sorted_before = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    ln_quantiles[i] = select_quantile(scores, log_sum_exp, levels[i], sorted_before);
  }
}

double raw_quantile(std::span<float> scores, double tau) {
  return select_raw_quantile(scores, tau);
}

double raw_quantile(std::span<double> scores, double tau) {
  return select_raw_quantile(scores, tau);
}

}  // namespace sift
