#include "sift/eval/power_law_analysis.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sift/core/error.h"
#include "sift/eval/result_json.h"
#include "sift/model/random_model.h"
#include "sift/sampler/random.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

constexpr AttentionShape kShape{2, 4, 2, 16};  // of the random model

class PowerLawAnalysis : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/power_law_" + std::to_string(getpid()) + ".gguf";
    write_random_llama(path_, {});
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::unique_ptr<Engine> engine(BackendKind backend, int threads = 1) const {
    EngineOptions options;
    options.model_path = path_;
    options.backend = backend;
    options.compute = Compute::f32;
    options.threads = threads;
    return std::make_unique<Engine>(options);
  }

  static ForcedTokens request(std::int64_t tokens, std::int64_t prompt_tokens) {
    ForcedTokens request{{}, prompt_tokens};
    for (std::int64_t i = 0; i < tokens; ++i) {
      request.tokens.push_back(
          3 + static_cast<std::int32_t>(256 * uniform_random(7, 0, static_cast<std::uint64_t>(i))));
    }
    return request;
  }

  std::string path_;
};

/// Keeps all scores: what the quantiles are taken from, by their definition.
class AllScores final : public ScoreObserver {
 public:
  struct Row {
    int layer, head;
    RowIdentity row;
    std::vector<float> scores;
  };

  bool wants(const RowIdentity& row) const override { return row.visible % 3 != 1; }
  void take(int layer, int head, const RowIdentity& row, std::span<float> scores,
            double log_sum_exp) override {
    double sum = 0;
    for (const float score : scores) sum += std::exp(static_cast<double>(score));
    EXPECT_NEAR(log_sum_exp, std::log(sum), 1e-5);
    const std::lock_guard lock(mutex_);
    rows.push_back({layer, head, row, {scores.begin(), scores.end()}});
    std::fill(scores.begin(), scores.end(), std::numeric_limits<float>::quiet_NaN());
  }

  const Row& of(int layer, int head, std::int64_t visible) const {
    return *std::ranges::find_if(rows, [&](const Row& r) {
      return r.layer == layer && r.head == head && r.row.visible == visible;
    });
  }

  std::vector<Row> rows;

 private:
  std::mutex mutex_;
};

/// Runs a request and returns what an observer saw, and the last hidden state.
std::vector<float> run_shown(Engine& engine, const std::string& policy, const ForcedTokens& request,
                             ScoreObserver* observer) {
  KvCache cache(engine.cache_layout(parse_policy(policy)), std::ssize(request.tokens));
  Sequence sequence(cache, parse_policy(policy), kShape.heads);
  sequence.attention().show_scores_to(observer);
  EXPECT_TRUE(run_forced_rows(engine, sequence, request));
  const AlignedBuffer<float>& hidden = engine.transformer().activations().hidden;
  return {hidden.data(), hidden.data() + request.tokens.size() * 64};
}

TEST_F(PowerLawAnalysis, ObserversSeeTheScoresOfEveryRowTheyWantAndChangeNothing) {
  const ForcedTokens text = request(150, 20);
  for (const char* policy : {"full", "sift:paper,warmup=16,tau=0.5",
                             "sift:paper,warmup=8,adapt=0.1", "topk:keep=0.25"}) {
    SCOPED_TRACE(policy);
    AllScores expected;
    run_shown(*engine(BackendKind::reference), policy, text, &expected);
    AllScores seen;
    const auto cpu = engine(BackendKind::cpu, 2);
    const std::vector<float> shown = run_shown(*cpu, policy, text, &seen);
    EXPECT_EQ(shown, run_shown(*cpu, policy, text, nullptr));
    ASSERT_EQ(seen.rows.size(), 100U * 8);  // of 150, those with visible % 3 ≠ 1; 2 layers, 4 heads
    ASSERT_EQ(expected.rows.size(), seen.rows.size());
    for (const AllScores::Row& row : seen.rows) {
      const AllScores::Row& same = expected.of(row.layer, row.head, row.row.visible);
      EXPECT_EQ(row.row.generated, same.row.generated);
      ASSERT_EQ(row.scores.size(), static_cast<std::size_t>(row.row.visible));
      ASSERT_EQ(row.scores.size(), same.scores.size());
      for (std::size_t key = 0; key < row.scores.size(); ++key) {
        ASSERT_NEAR(row.scores[key], same.scores[key], 2e-3);
      }
    }
  }
}

/// numpy.quantile of a row's softmax, in the open.
double ln_quantile(const std::vector<float>& scores, double level) {
  std::vector<double> weights;
  weights.reserve(scores.size());
  double sum = 0;
  for (const float score : scores) sum += std::exp(static_cast<double>(score));
  for (const float score : scores) weights.push_back(std::exp(static_cast<double>(score)) / sum);
  std::ranges::sort(weights);
  const double position = static_cast<double>(weights.size() - 1) * level;
  const auto lower = static_cast<std::size_t>(position);
  const std::size_t upper = std::min(lower + 1, weights.size() - 1);
  const double fraction = position - static_cast<double>(lower);
  return std::log((1 - fraction) * weights[lower] + fraction * weights[upper]);
}

TEST_F(PowerLawAnalysis, SeriesHoldTheQuantilesOfEveryGeneratedRow) {
  const std::vector<double> levels = {0.1, 0.5, 0.875};
  for (const std::int64_t prompt : {0, 37}) {
    const ForcedTokens text = request(120, prompt);
    const auto cpu = engine(BackendKind::cpu, 2);
    const auto series = quantile_series(*cpu, text, levels);
    AllScores scores;
    run_shown(*cpu, "full", text, &scores);
    ASSERT_TRUE(series.has_value());
    EXPECT_EQ(series->rows(), 120 - prompt);
    EXPECT_EQ(series->first_keys(), prompt + 1);
    std::int64_t compared = 0;
    for (const AllScores::Row& row : scores.rows) {
      if (row.row.generated == 0) continue;
      for (std::size_t level = 0; level < levels.size(); ++level) {
        const double got = series->of(level, row.layer, row.head)[row.row.generated - 1];
        ASSERT_NEAR(got, ln_quantile(row.scores, levels[level]), 1e-5);
        ++compared;
      }
    }
    EXPECT_GT(compared, 1000);
  }
}

TEST_F(PowerLawAnalysis, TheReferenceFindsTheSameAndThreadsChangeNothing) {
  const ForcedTokens text = request(90, 0);
  const auto expected = quantile_series(*engine(BackendKind::reference), text, {0.5, 0.75});
  const auto one = quantile_series(*engine(BackendKind::cpu, 1), text, {0.5, 0.75});
  const auto two = quantile_series(*engine(BackendKind::cpu, 2), text, {0.5, 0.75});
  for (std::size_t level = 0; level < 2; ++level) {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      for (int head = 0; head < kShape.heads; ++head) {
        EXPECT_TRUE(std::ranges::equal(one->of(level, layer, head), two->of(level, layer, head)));
        for (std::size_t row = 0; row < 90; ++row) {
          ASSERT_NEAR(one->of(level, layer, head)[row], expected->of(level, layer, head)[row],
                      2e-3);
        }
      }
    }
  }
}

/// Fills one series by taking scores whose quantiles are known: all equal, but for one value.
QuantileSeries made_series(const std::vector<std::vector<double>>& ln_theta) {
  QuantileSeries series({1, static_cast<int>(ln_theta.size()), 1, 1}, {0.5}, 10,
                        static_cast<std::int64_t>(ln_theta[0].size()));
  for (std::size_t head = 0; head < ln_theta.size(); ++head) {
    for (std::size_t row = 0; row < ln_theta[head].size(); ++row) {
      std::vector<float> scores(3, static_cast<float>(ln_theta[head][row]));
      series.take(0, static_cast<int>(head),
                  {11 + static_cast<std::int64_t>(row), 1 + static_cast<std::int64_t>(row)}, scores,
                  0);
    }
  }
  return series;
}

TEST(PowerLawFits, RecoverAnExactLawFromAnyRows) {
  std::vector<double> exact;
  exact.reserve(80);
  for (int row = 0; row < 80; ++row) exact.push_back(-0.5 - 1.25 * std::log(11.0 + row));
  const std::vector<std::int64_t> rows = {8, 32, 80, 200};
  const auto fits = fit_power_laws(made_series({exact}), rows);
  ASSERT_EQ(fits.size(), 3U);  // all, 8, 32: the others are not shorter than the series
  EXPECT_TRUE(fits[0].all_rows);
  EXPECT_EQ(fits[0].fitted_rows, 80);
  EXPECT_EQ(fits[1].fitted_rows, 8);
  EXPECT_EQ(fits[2].fitted_rows, 32);
  for (const PowerLawFit& fit : fits) {
    EXPECT_NEAR(fit.law.beta, 1.25, 1e-4);  // scores are floats
    EXPECT_NEAR(fit.law.ln_alpha, -0.5, 1e-3);
    EXPECT_NEAR(*fit.r_squared, 1, 1e-6);
  }
}

TEST(PowerLawFits, AreScoredOverAllRowsWhateverTheyWereFittedOn) {
  // Falls for 20 rows as the law says, then rises: what is fitted on 20 rows is worse than a mean.
  std::vector<double> turning;
  for (int row = 0; row < 60; ++row) {
    const double x = std::log(11.0 + row);
    turning.push_back(row < 20 ? -2 * x : -2 * std::log(30.0) + 3 * (x - std::log(30.0)));
  }
  const std::vector<std::int64_t> rows = {20};
  const auto fits = fit_power_laws(made_series({turning}), rows);
  double mean = 0;
  for (const double y : turning) mean += y / 60;
  double residual = 0;
  double total = 0;
  for (int row = 0; row < 60; ++row) {
    residual += std::pow(turning[row] + 2 * std::log(11.0 + row), 2);
    total += std::pow(turning[row] - mean, 2);
  }
  EXPECT_NEAR(*fits[1].r_squared, 1 - residual / total, 1e-4);
  EXPECT_LT(*fits[1].r_squared, 0);
  // Where all rows are fitted, R² is the share of variance explained.
  LogLogFit fit;
  for (int row = 0; row < 60; ++row) fit.add(11 + row, static_cast<float>(turning[row]));
  EXPECT_NEAR(*fits[0].r_squared, fit.r_squared(), 1e-9);
}

TEST(PowerLawFits, HaveNoScoreWhereAllQuantilesAreEqual) {
  const auto fits = fit_power_laws(made_series({std::vector<double>(30, -3.0)}), {});
  EXPECT_FALSE(fits[0].r_squared.has_value());
  EXPECT_TRUE(fits[0].law.degenerate);
  const auto summary = summarise(fits);
  EXPECT_EQ(summary[0].fits, 0);
  EXPECT_EQ(summary[0].undefined, 1);
  EXPECT_TRUE(summaries_json(summary)[0]["r_squared"]["50"].is_null());
}

TEST(PowerLawSummaries, CountEachKindByItself) {
  std::vector<PowerLawFit> fits;
  for (int i = 0; i <= 20; ++i) {  // R² −0.4, −0.35 … 0.6 in two layers
    PowerLawFit fit{i % 2, 0, 0.5, 100, true, {}, -0.4 + 0.05 * i};
    fit.law.beta = i;
    fits.push_back(fit);
  }
  fits.push_back({0, 0, 0.5, 64, false, {}, 0.25});
  fits.push_back({0, 0, 0.875, 90, true, {}, 0.75});
  const auto summaries = summarise(fits);
  ASSERT_EQ(summaries.size(), 3U);
  const PowerLawSummary& all = summaries[0];
  EXPECT_EQ(all.fitted_rows, 0);
  EXPECT_EQ(all.fits, 21);
  EXPECT_NEAR(all.percentiles[0], -0.35, 1e-12);
  EXPECT_NEAR(all.percentiles[1], -0.15, 1e-12);
  EXPECT_NEAR(all.percentiles[2], 0.1, 1e-12);
  EXPECT_NEAR(all.percentiles[4], 0.55, 1e-12);
  EXPECT_NEAR(all.negative_share, 8.0 / 21, 1e-12);
  EXPECT_EQ(all.beta_percentiles[2], 10);
  ASSERT_EQ(all.layer_medians.size(), 2U);
  EXPECT_NEAR(all.layer_medians[0], 0.1, 1e-12);
  EXPECT_EQ(summaries[1].fitted_rows, 64);
  EXPECT_EQ(summaries[2].level, 0.875);
  EXPECT_NEAR(percentile({4, 1, 2}, 0.75), 3, 1e-12);
}

TEST_F(PowerLawAnalysis, FitsSurviveTheirJson) {
  const auto series = quantile_series(*engine(BackendKind::cpu), request(70, 0), {0.5, 0.875});
  const std::vector<std::int64_t> rows = {16};
  const auto fits = fit_power_laws(*series, rows);
  ASSERT_EQ(fits.size(), 2U * 8 * 2);
  const auto parsed = parse_fits(nlohmann::ordered_json::parse(fits_json(3, *series, fits).dump()));
  ASSERT_EQ(parsed.size(), fits.size());
  for (std::size_t i = 0; i < fits.size(); ++i) {
    EXPECT_EQ(parsed[i].r_squared, fits[i].r_squared);
    EXPECT_EQ(parsed[i].law.beta, fits[i].law.beta);
    EXPECT_NEAR(parsed[i].law.ln_alpha, fits[i].law.ln_alpha, 1e-12);
    EXPECT_EQ(parsed[i].all_rows, fits[i].all_rows);
  }
}

TEST_F(PowerLawAnalysis, StopsAndRefuses) {
  const auto cpu = engine(BackendKind::cpu);
  EXPECT_FALSE(quantile_series(*cpu, request(512, 0), {0.5}, [](std::int64_t) { return true; }) ==
               std::nullopt);
  EXPECT_THROW(quantile_series(*cpu, request(513, 0), {0.5}), Error);  // the model has 512
  EXPECT_THROW(quantile_series(*cpu, request(0, 0), {0.5}), Error);
  EXPECT_THROW(quantile_series(*cpu, request(8, 0), {0.5, 0.5}), Error);
  EXPECT_THROW(quantile_series(*cpu, request(8, 0), {1.0}), Error);
}

}  // namespace
}  // namespace sift
