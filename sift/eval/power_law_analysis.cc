#include "sift/eval/power_law_analysis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "sift/core/error.h"
#include "sift/sifting/quantile.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

void check_levels(const std::vector<double>& levels) {
  double before = 0;
  for (const double level : levels) {
    if (!(level > before && level < 1)) {
      throw Error(
          ErrorKind::invalid_argument,
          fmt::format("quantile level {} after {}, expected ascending levels between 0 and 1",
                      level, before));
    }
    before = level;
  }
}

PowerLawFit fit_head(const QuantileSeries& series, std::size_t level, int layer, int head,
                     std::int64_t rows) {
  const std::span<const double> ln_theta = series.of(level, layer, head);
  LogLogFit fit;
  for (std::int64_t row = 0; row < rows; ++row) {
    fit.add(series.first_keys() + row, ln_theta[static_cast<std::size_t>(row)]);
  }
  PowerLawFit result{layer, head, series.levels()[level], rows, rows == series.rows(), {}, {}};
  result.law = fit.solve(FitKind::ols);
  result.r_squared = r_squared(result.law, ln_theta, series.first_keys());
  return result;
}

std::array<double, 5> percentiles_of(const std::vector<double>& values) {
  std::array<double, 5> result{};
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = percentile(values, kSummaryPercentiles[i]);
  }
  return result;
}

PowerLawSummary summarise_kind(double level, std::int64_t fitted_rows,
                               const std::vector<const PowerLawFit*>& fits) {
  PowerLawSummary summary{level, fitted_rows, 0, 0, {}, 0, {}, {}};
  std::vector<double> scores;
  std::vector<double> betas;
  std::map<int, std::vector<double>> by_layer;
  for (const PowerLawFit* fit : fits) {
    betas.push_back(fit->law.beta);
    std::vector<double>& layer = by_layer[fit->layer];
    if (!fit->r_squared) continue;
    scores.push_back(*fit->r_squared);
    layer.push_back(*fit->r_squared);
  }
  summary.fits = std::ssize(scores);
  summary.undefined = std::ssize(fits) - summary.fits;
  summary.percentiles = percentiles_of(scores);
  summary.beta_percentiles = percentiles_of(betas);
  const auto negative = std::ranges::count_if(scores, [](double score) { return score < 0; });
  summary.negative_share =
      scores.empty() ? 0 : static_cast<double>(negative) / static_cast<double>(scores.size());
  for (const auto& [layer, values] : by_layer) {
    summary.layer_medians.push_back(percentile(values, 0.5));
  }
  return summary;
}

}  // namespace

QuantileSeries::QuantileSeries(const AttentionShape& shape, std::vector<double> levels,
                               std::int64_t prompt_tokens, std::int64_t rows)
    : shape_(shape), levels_(std::move(levels)), prompt_tokens_(prompt_tokens), rows_(rows) {
  ln_theta_.resize(offset(levels_.size(), 0, 0));
}

void QuantileSeries::take(int layer, int head, const RowIdentity& row, std::span<float> scores,
                          double log_sum_exp) {
  std::array<double, 16> ln_quantiles{};
  for (std::size_t begin = 0; begin < levels_.size(); begin += ln_quantiles.size()) {
    const std::size_t count = std::min(levels_.size() - begin, ln_quantiles.size());
    ln_softmax_quantiles(scores, log_sum_exp, levels().subspan(begin, count), ln_quantiles);
    for (std::size_t i = 0; i < count; ++i) {
      ln_theta_[offset(begin + i, layer, head) + static_cast<std::size_t>(row.generated - 1)] =
          ln_quantiles[i];
    }
  }
}

std::optional<QuantileSeries> quantile_series(Engine& engine, const ForcedTokens& request,
                                              const std::vector<double>& levels,
                                              const RowsCallback& callback) {
  check_levels(levels);
  const auto tokens = static_cast<std::int64_t>(request.tokens.size());
  const AttentionShape shape = engine.transformer().shape().attention();
  KvCache cache(engine.cache_layout(), tokens);
  Sequence sequence(cache, Policy{}, shape.heads);
  QuantileSeries series(shape, levels, request.prompt_tokens, tokens - request.prompt_tokens);
  sequence.attention().show_scores_to(&series);
  if (!run_forced_rows(engine, sequence, request, callback)) return std::nullopt;
  return series;
}

std::optional<double> r_squared(const PowerLaw& law, std::span<const double> ln_theta,
                                std::int64_t first_keys) {
  double mean = 0;
  for (const double value : ln_theta) mean += value / static_cast<double>(ln_theta.size());
  double residual = 0;
  double total = 0;
  bool differ = false;
  for (std::size_t row = 0; row < ln_theta.size(); ++row) {
    const double error =
        ln_theta[row] - law.ln_threshold(first_keys + static_cast<std::int64_t>(row));
    residual += error * error;
    total += (ln_theta[row] - mean) * (ln_theta[row] - mean);
    differ = differ || ln_theta[row] != ln_theta[0];
  }
  if (!differ) return std::nullopt;
  return 1 - residual / total;
}

std::vector<PowerLawFit> fit_power_laws(const QuantileSeries& series,
                                        std::span<const std::int64_t> fitted_rows) {
  std::vector<PowerLawFit> fits;
  for (std::size_t level = 0; level < series.levels().size(); ++level) {
    for (int layer = 0; layer < series.shape().layers; ++layer) {
      for (int head = 0; head < series.shape().heads; ++head) {
        fits.push_back(fit_head(series, level, layer, head, series.rows()));
        for (const std::int64_t rows : fitted_rows) {
          if (rows < series.rows()) fits.push_back(fit_head(series, level, layer, head, rows));
        }
      }
    }
  }
  return fits;
}

std::vector<PowerLawSummary> summarise(std::span<const PowerLawFit> fits) {
  std::map<std::pair<double, std::int64_t>, std::vector<const PowerLawFit*>> kinds;
  for (const PowerLawFit& fit : fits) {
    kinds[{fit.level, fit.all_rows ? 0 : fit.fitted_rows}].push_back(&fit);
  }
  std::vector<PowerLawSummary> summaries;
  summaries.reserve(kinds.size());
  for (const auto& [kind, members] : kinds) {
    summaries.push_back(summarise_kind(kind.first, kind.second, members));
  }
  return summaries;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::ranges::sort(values);
  const QuantilePosition at = quantile_position(std::ssize(values), share);
  const double lower = values[static_cast<std::size_t>(at.lower)];
  if (at.fraction == 0) return lower;
  return lower + at.fraction * (values[static_cast<std::size_t>(at.lower) + 1] - lower);
}

}  // namespace sift
