#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "sift/attention/attention_state.h"
#include "sift/attention/score_observer.h"
#include "sift/engine/engine.h"
#include "sift/eval/forced_rows.h"
#include "sift/sifting/power_law.h"

namespace sift {

// How well a power law of the number of visible keys predicts the quantiles of attention scores
// (paper, section 4.2 and appendix A).

/// ln θ, the logarithm of the τ-quantile of the softmax scores, of each generated row, layer and
/// query head of a request that runs dense, for several levels τ.
class QuantileSeries final : public ScoreObserver {
 public:
  /// Room for `rows` rows behind `prompt_tokens`. REQUIRES: levels ascend within (0, 1).
  QuantileSeries(const AttentionShape& shape, std::vector<double> levels,
                 std::int64_t prompt_tokens, std::int64_t rows);

  bool wants(const RowIdentity& row) const override { return row.generated > 0; }
  void take(int layer, int head, const RowIdentity& row, std::span<float> scores,
            double log_sum_exp) override;

  const AttentionShape& shape() const { return shape_; }
  std::span<const double> levels() const { return levels_; }
  std::int64_t rows() const { return rows_; }
  /// Visible keys of the first row; each further one sees one more.
  std::int64_t first_keys() const { return prompt_tokens_ + 1; }
  /// ln θ [rows] at levels()[level].
  std::span<const double> of(std::size_t level, int layer, int head) const {
    return {ln_theta_.data() + offset(level, layer, head), static_cast<std::size_t>(rows_)};
  }

 private:
  std::size_t offset(std::size_t level, int layer, int head) const {
    return ((level * static_cast<std::size_t>(shape_.layers) + static_cast<std::size_t>(layer)) *
                static_cast<std::size_t>(shape_.heads) +
            static_cast<std::size_t>(head)) *
           static_cast<std::size_t>(rows_);
  }

  AttentionShape shape_;
  std::vector<double> levels_;
  std::int64_t prompt_tokens_;
  std::int64_t rows_;
  std::vector<double> ln_theta_;  ///< [levels, layers, heads, rows]
};

/// The quantiles of all rows after a request's prompt, with full attention; nothing when the
/// callback ended the run. Memory: 8 bytes for each level, layer, head and row. Throws Error
/// (invalid_argument) for levels that do not ascend within (0, 1), and as run_forced_rows().
std::optional<QuantileSeries> quantile_series(Engine& engine, const ForcedTokens& request,
                                              const std::vector<double>& levels,
                                              const RowsCallback& callback = {});

/// A law that was fitted to the first rows of a series and scored over all.
struct PowerLawFit {
  int layer = 0;
  int head = 0;
  double level = 0;              ///< τ
  std::int64_t fitted_rows = 0;  ///< w; as many as the series has for the fit over all rows
  bool all_rows = false;         ///< the fit over all rows
  PowerLaw law;
  /// R² in log space over all rows; empty where all ln θ are equal.
  std::optional<double> r_squared;
};

/// 1 − Σ(ℓ − ℓ̂)² / Σ(ℓ − ℓ̄)² over ℓ = ln θ [rows], the first of which sees `first_keys` keys.
/// Negative where the law predicts worse than the mean; empty where all ℓ are equal.
std::optional<double> r_squared(const PowerLaw& law, std::span<const double> ln_theta,
                                std::int64_t first_keys);

/// Least-squares fits of every head and level: over all rows, then over the first w rows for each w
/// of `fitted_rows` that the series is longer than. Ordered by level, layer, head.
std::vector<PowerLawFit> fit_power_laws(const QuantileSeries& series,
                                        std::span<const std::int64_t> fitted_rows);

/// Shares of the ordered values below the numbers of PowerLawSummary::percentiles.
inline constexpr std::array<double, 5> kSummaryPercentiles = {0.05, 0.25, 0.5, 0.75, 0.95};

/// How well the fits of one kind score.
struct PowerLawSummary {
  double level = 0;
  std::int64_t fitted_rows = 0;              ///< 0: all rows
  std::int64_t fits = 0;                     ///< those with an R²
  std::int64_t undefined = 0;                ///< those without
  std::array<double, 5> percentiles{};       ///< of R²: 5, 25, 50, 75, 95
  double negative_share = 0;                 ///< of fits with an R² below 0
  std::vector<double> layer_medians;         ///< [layers] of R²; NaN where no fit has one
  std::array<double, 5> beta_percentiles{};  ///< of β
};

/// Collects the fits of requests and sums them up: one summary for each level and number of fitted
/// rows, in ascending order, all rows first.
std::vector<PowerLawSummary> summarise(std::span<const PowerLawFit> fits);

/// The `share`-quantile of values, interpolated linearly as NumPy does; NaN of nothing.
double percentile(std::vector<double> values, double share);

}  // namespace sift
