#include "sift/sifting/quantile.h"

#include <algorithm>

namespace sift {
namespace {

struct Neighbours {
  double lower, upper, fraction;
};

template <class Float>
Neighbours select_neighbours(std::span<Float> scores, double tau) {
  const QuantilePosition at = quantile_position(static_cast<std::int64_t>(scores.size()), tau);
  const auto lower = scores.begin() + at.lower;
  std::nth_element(scores.begin(), lower, scores.end());
  // Everything behind `lower` is at least as large, so the next order statistic is its minimum.
  const auto upper = at.fraction > 0 ? std::min_element(lower + 1, scores.end()) : lower;
  return {*lower, *upper, at.fraction};
}

template <class Float>
double select_quantile(std::span<Float> scores, double log_sum_exp, double tau) {
  const auto [lower, upper, fraction] = select_neighbours(scores, tau);
  return ln_interpolated_quantile(lower, upper, fraction, log_sum_exp);
}

template <class Float>
double select_raw_quantile(std::span<Float> scores, double tau) {
  const auto [lower, upper, fraction] = select_neighbours(scores, tau);
  return interpolated_quantile(lower, upper, fraction);
}

}  // namespace

double ln_softmax_quantile(std::span<float> scores, double log_sum_exp, double tau) {
  return select_quantile(scores, log_sum_exp, tau);
}

double ln_softmax_quantile(std::span<double> scores, double log_sum_exp, double tau) {
  return select_quantile(scores, log_sum_exp, tau);
}

double raw_quantile(std::span<float> scores, double tau) {
  return select_raw_quantile(scores, tau);
}

double raw_quantile(std::span<double> scores, double tau) {
  return select_raw_quantile(scores, tau);
}

}  // namespace sift
