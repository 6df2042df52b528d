#include "sift/eval/study_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "sift/core/error.h"
#include "sift/eval/attention_speed.h"
#include "sift/eval/corpus.h"
#include "sift/eval/perplexity.h"
#include "sift/eval/power_law_analysis.h"
#include "sift/eval/result_json.h"
#include "sift/eval/speed.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<double> kLevels = {0.5, 0.75, 0.875};
const std::vector<std::int64_t> kFittedRows = {64, 128, 256, 512};
/// Series are shown for the heads whose R² stand at these shares of all.
constexpr std::array<double, 4> kShownHeads = {0.05, 0.25, 0.5, 0.95};
constexpr std::size_t kShownLevel = 2;
constexpr std::int64_t kShownPoints = 160;

/// Throws for numbers that JSON does not have.
void require_finite(const Json& value, const Json& cell) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    throw Error(ErrorKind::numerical,
                fmt::format("the result of {} holds {}, expected finite numbers", cell.dump(),
                            value.get<double>()));
  }
  if (!value.is_structured()) return;
  for (const Json& member : value) require_finite(member, cell);
}

/// Rows of a series, evenly spaced in the logarithm of the keys that they see.
std::vector<std::int64_t> shown_rows(const QuantileSeries& series) {
  std::vector<std::int64_t> rows;
  const double first = std::log(static_cast<double>(series.first_keys()));
  const double last = std::log(static_cast<double>(series.first_keys() + series.rows() - 1));
  for (std::int64_t i = 0; i < kShownPoints; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(kShownPoints - 1);
    const std::int64_t row =
        std::llround(std::exp(first + share * (last - first))) - series.first_keys();
    if (rows.empty() || row > rows.back()) rows.push_back(std::min(row, series.rows() - 1));
  }
  return rows;
}

/// Series of a few heads, good and bad, with their laws.
Json shown_series(const QuantileSeries& series, std::span<const PowerLawFit> fits) {
  std::vector<const PowerLawFit*> ranked;
  for (const PowerLawFit& fit : fits) {
    if (fit.all_rows && fit.level == kLevels[kShownLevel] && fit.r_squared) ranked.push_back(&fit);
  }
  std::ranges::stable_sort(ranked, {}, [](const PowerLawFit* fit) { return *fit->r_squared; });
  Json shown = Json::array();
  if (ranked.empty()) return shown;
  for (const double share : kShownHeads) {
    const auto last = static_cast<double>(ranked.size() - 1);
    const PowerLawFit& fit = *ranked[static_cast<std::size_t>(std::lround(share * last))];
    Json points = Json::array();
    for (const std::int64_t row : shown_rows(series)) {
      const std::span<const double> ln_theta = series.of(kShownLevel, fit.layer, fit.head);
      points.push_back({series.first_keys() + row, ln_theta[static_cast<std::size_t>(row)]});
    }
    shown.push_back({{"layer", fit.layer},
                     {"head", fit.head},
                     {"level", fit.level},
                     {"r_squared", *fit.r_squared},
                     {"keys_and_ln_theta", std::move(points)}});
  }
  return shown;
}

/// Keeps the scores of one row.
class RowScores final : public ScoreObserver {
 public:
  RowScores(const AttentionShape& shape, std::int64_t visible)
      : heads_(shape.heads), visible_(visible) {
    scores.resize(static_cast<std::size_t>(shape.layers) * static_cast<std::size_t>(shape.heads) *
                  static_cast<std::size_t>(visible));
    log_sum_exps.resize(scores.size() / static_cast<std::size_t>(visible));
  }

  bool wants(const RowIdentity& row) const override { return row.visible == visible_; }
  void take(int layer, int head, const RowIdentity&, std::span<float> row,
            double log_sum_exp) override {
    const std::size_t at = index(layer, head);
    std::ranges::copy(
        row, scores.begin() + static_cast<std::ptrdiff_t>(at * static_cast<std::size_t>(visible_)));
    log_sum_exps[at] = log_sum_exp;
  }
  std::size_t index(int layer, int head) const {
    return static_cast<std::size_t>(layer) * static_cast<std::size_t>(heads_) +
           static_cast<std::size_t>(head);
  }

  std::vector<float> scores;  ///< [layers, heads, visible]
  std::vector<double> log_sum_exps;

 private:
  int heads_;
  std::int64_t visible_;
};

/// Which scores exceed a limit, as hexadecimal digits of four keys each, the first key highest.
std::string mask_digits(std::span<const float> scores, double limit) {
  std::string digits;
  for (std::size_t begin = 0; begin < scores.size(); begin += 4) {
    int digit = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      const bool kept = begin + i < scores.size() && scores[begin + i] > limit;
      digit = 2 * digit + (kept ? 1 : 0);
    }
    digits += "0123456789abcdef"[digit];
  }
  return digits;
}

}  // namespace

StudyRunner::StudyRunner(Engine& engine, const StudyPlan& plan,
                         std::map<std::string, std::vector<std::int32_t>> texts,
                         std::function<bool()> proceed)
    : engine_(engine), plan_(plan), texts_(std::move(texts)), proceed_(std::move(proceed)) {
  if (plan.context > engine.context()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("windows of {} tokens asked for, but the model has a context of {}",
                            plan.context, engine.context()));
  }
  for (const std::string& name : plan.texts) {
    try {
      cut_windows(texts_.at(name), plan.context, plan.windows);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("{}: {}", name, error.what()));
    }
  }
}

std::optional<Json> StudyRunner::run(const Json& identity) {
  using Run = Result (StudyRunner::*)(const Json&);
  static const std::map<std::string, Run> kRuns = {
      {"powerlaw", &StudyRunner::power_law},
      {"perplexity", &StudyRunner::perplexity_of},
      {"mask", &StudyRunner::mask},
      {"generation", &StudyRunner::generation},
      {"decode_speed", &StudyRunner::decode_speed_of},
      {"attention_speed", &StudyRunner::attention_speed_of},
  };
  Result result = (this->*kRuns.at(identity.at("kind")))(identity);
  if (result) require_finite(*result, identity);
  return result;
}

StudyRunner::Result StudyRunner::power_law(const Json& cell) {
  const auto window = cell.at("window").get<std::int64_t>();
  const auto requests = cut_windows(text_of(cell), plan_.context, window + 1);
  const auto series =
      quantile_series(engine_, requests.back(), kLevels, [&](std::int64_t) { return proceed_(); });
  if (!series) return std::nullopt;
  const std::vector<PowerLawFit> fits = fit_power_laws(*series, kFittedRows);
  Json result = fits_json(window, *series, fits);
  result["series"] = shown_series(*series, fits);
  return result;
}

StudyRunner::Result StudyRunner::perplexity_of(const Json& cell) {
  PerplexityOptions options;
  options.policy = evaluation_policy(parse_policy(cell.at("policy").get<std::string>()));
  options.context = plan_.context;
  options.windows = plan_.windows;
  options.prompt_tokens = cell.at("prompt_tokens");
  const PerplexityResult result =
      perplexity(engine_, text_of(cell), options,
                 [&](const PerplexityResult&, std::int64_t) { return proceed_(); });
  if (result.interrupted) return std::nullopt;
  return Json{{"perplexity", result.perplexity},
              {"standard_error", result.standard_error},
              {"scored_tokens", result.scored_tokens},
              {"notice", result.notice},
              {"attention", attention_json(options.policy, result.attention)}};
}

StudyRunner::Result StudyRunner::mask(const Json& cell) {
  const Policy policy = evaluation_policy(parse_policy(cell.at("policy").get<std::string>()));
  const auto step = cell.at("step").get<std::int64_t>();
  const AttentionShape shape = engine_.transformer().shape().attention();
  KvCache cache(engine_.cache_layout(policy), step);
  Sequence sequence(cache, policy, shape.heads);
  RowScores scores(shape, step);
  sequence.attention().show_scores_to(&scores);
  const std::vector<ForcedTokens> requests = cut_windows(text_of(cell), step, 1);
  const auto proceed = [&](std::int64_t) { return proceed_(); };
  if (!run_forced_rows(engine_, sequence, requests.front(), proceed)) return std::nullopt;
  Json layers = Json::array();
  for (int layer = 0; layer < shape.layers; ++layer) {
    Json heads = Json::array();
    for (int head = 0; head < shape.heads; ++head) {
      const std::size_t at = scores.index(layer, head);
      const HeadState& state = sequence.attention().head_state(layer, head);
      const double limit = state.law.ln_threshold(step) + scores.log_sum_exps[at];
      const auto keys = static_cast<std::size_t>(step);
      heads.push_back(mask_digits({scores.scores.data() + at * keys, keys}, limit));
    }
    layers.push_back(std::move(heads));
  }
  return Json{{"keys", step}, {"kept", std::move(layers)}};
}

StudyRunner::Result StudyRunner::generation(const Json& cell) {
  GenerationRequest request;
  request.policy = evaluation_policy(parse_policy(cell.at("policy").get<std::string>()));
  request.prompt =
      engine_.tokenizer().encode_prompt(cell.at("prompt").get<std::string>(), ParseSpecial::no);
  request.max_tokens = cell.at("max_tokens");
  request.sampling.temperature = 0;
  const GenerationResult result =
      engine_.generate(request, [&](const GeneratedToken&) { return proceed_(); });
  if (result.finish_reason == FinishReason::interrupted) return std::nullopt;
  Json pieces = Json::array();
  for (const std::int32_t id : result.token_ids) {
    pieces.push_back(engine_.tokenizer().decode({&id, 1}));
  }
  return Json{{"text", result.text},
              {"token_ids", result.token_ids},
              {"pieces", std::move(pieces)},
              {"finish_reason", name(result.finish_reason)},
              {"notice", result.notice},
              {"attention", attention_json(request.policy, result.attention)}};
}

StudyRunner::Result StudyRunner::decode_speed_of(const Json& cell) {
  const Policy policy = evaluation_policy(parse_policy(cell.at("policy").get<std::string>()));
  const std::int64_t tokens = std::min<std::int64_t>(plan_.quick ? 16 : 32, plan_.context / 16);
  const std::int64_t repeat = plan_.quick ? 3 : 5;
  const SpeedResult result =
      decode_speed(engine_, text_of(cell), policy, cell.at("depth"), tokens, repeat,
                   [&](std::int64_t, std::int64_t) { return proceed_(); });
  if (std::ssize(result.tokens_per_second) < repeat) return std::nullopt;
  return Json{{"seconds_per_token", 1 / result.median()},
              {"tokens_per_second", result.tokens_per_second},
              {"attention", attention_json(policy, result.attention)}};
}

StudyRunner::Result StudyRunner::attention_speed_of(const Json& cell) {
  const AttentionShape shape = engine_.transformer().shape().attention();
  AttentionSpeedOptions options;
  options.backend = engine_.options().backend;
  options.policy = parse_policy(cell.at("policy").get<std::string>());
  options.batch = cell.at("batch");
  options.context = cell.at("context");
  options.heads = shape.heads;
  options.kv_heads = shape.kv_heads;
  options.head_dim = shape.head_dim;
  options.type = engine_.options().cache_type;
  options.threads = engine_.options().threads;
  options.repeat = plan_.quick ? 20 : 50;
  options.rotated_bytes = 4 * last_level_cache_bytes();
  const AttentionSpeed speed =
      attention_speed(options, [&](std::int64_t, std::int64_t) { return proceed_(); });
  if (speed.copies == 0) return std::nullopt;
  return attention_speed_json(options, speed);
}

}  // namespace sift
