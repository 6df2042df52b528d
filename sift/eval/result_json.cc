#include "sift/eval/result_json.h"

#include <cmath>

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

Json fit_json(const PowerLawFit& fit) {
  return {{"layer", fit.layer},       {"head", fit.head},
          {"level", fit.level},       {"fitted_rows", fit.fitted_rows},
          {"all_rows", fit.all_rows}, {"alpha", std::exp(fit.law.ln_alpha)},
          {"beta", fit.law.beta},     {"r_squared", number_json(fit.r_squared)}};
}

PowerLawFit parse_fit(const Json& object) {
  PowerLawFit fit;
  fit.layer = object.at("layer");
  fit.head = object.at("head");
  fit.level = object.at("level");
  fit.fitted_rows = object.at("fitted_rows");
  fit.all_rows = object.at("all_rows");
  fit.law.ln_alpha = std::log(object.at("alpha").get<double>());
  fit.law.beta = object.at("beta");
  const Json& score = object.at("r_squared");
  if (!score.is_null()) fit.r_squared = score.get<double>();
  return fit;
}

Json percentiles_json(const std::array<double, 5>& values) {
  Json object = Json::object();
  for (std::size_t i = 0; i < values.size(); ++i) {
    object[std::to_string(std::lround(100 * kSummaryPercentiles[i]))] = number_json(values[i]);
  }
  return object;
}

}  // namespace

Json number_json(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

Json fits_json(std::int64_t request, const QuantileSeries& series,
               std::span<const PowerLawFit> fits) {
  Json array = Json::array();
  for (const PowerLawFit& fit : fits) array.push_back(fit_json(fit));
  return {{"request", request},
          {"prompt_tokens", series.first_keys() - 1},
          {"rows", series.rows()},
          {"fits", std::move(array)}};
}

std::vector<PowerLawFit> parse_fits(const Json& object) {
  std::vector<PowerLawFit> fits;
  for (const Json& fit : object.at("fits")) fits.push_back(parse_fit(fit));
  return fits;
}

Json attention_speed_json(const AttentionSpeedOptions& options, const AttentionSpeed& speed) {
  Json terms = Json::object();
  for (const TermSpeed& term : speed.terms) terms[term.name] = term.seconds;
  return {{"backend", options.backend == BackendKind::cpu ? "cpu" : "reference"},
          {"batch", options.batch},
          {"context", options.context},
          {"heads", options.heads},
          {"kv_heads", options.kv_heads},
          {"head_dim", options.head_dim},
          {"dtype", std::string(traits(options.type).name)},
          {"threads", options.threads},
          {"repeat", options.repeat},
          {"copies", speed.copies},
          {"seconds", speed.seconds},
          {"minimum_seconds", speed.least_seconds},
          {"maximum_seconds", speed.most_seconds},
          {"dense_seconds", speed.dense_seconds},
          {"times_as_fast_as_dense", speed.dense_seconds / speed.seconds},
          {"bytes", speed.bytes},
          {"dense_bytes", speed.dense_bytes},
          {"bytes_per_second", speed.bytes / speed.seconds},
          {"dense_bytes_per_second", speed.dense_bytes / speed.dense_seconds},
          {"term_seconds", terms},
          {"attention", attention_json(options.policy, speed.attention)}};
}

Json summaries_json(std::span<const PowerLawSummary> summaries) {
  Json array = Json::array();
  for (const PowerLawSummary& summary : summaries) {
    Json medians = Json::array();
    for (const double median : summary.layer_medians) medians.push_back(number_json(median));
    array.push_back(
        {{"level", summary.level},
         {"fitted_rows", summary.fitted_rows == 0 ? Json("all") : Json(summary.fitted_rows)},
         {"fits", summary.fits},
         {"undefined", summary.undefined},
         {"r_squared", percentiles_json(summary.percentiles)},
         {"negative_share", summary.negative_share},
         {"beta", percentiles_json(summary.beta_percentiles)},
         {"layer_medians", std::move(medians)}});
  }
  return array;
}

}  // namespace sift
