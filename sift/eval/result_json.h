#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "sift/eval/attention_json.h"
#include "sift/eval/attention_speed.h"
#include "sift/eval/power_law_analysis.h"

namespace sift {

// Results as the JSON of reports. This header is not installed.

/// A number, or null for nothing and for what is not finite.
nlohmann::ordered_json number_json(const std::optional<double>& value);

/// {"request", "prompt_tokens", "rows", "fits": [{"layer", "head", "level", "fitted_rows",
/// "all_rows", "alpha", "beta", "r_squared"}]} of one request.
nlohmann::ordered_json fits_json(std::int64_t request, const QuantileSeries& series,
                                 std::span<const PowerLawFit> fits);

/// The fits of such an object. Throws nlohmann::json::exception for one that lacks a key.
std::vector<PowerLawFit> parse_fits(const nlohmann::ordered_json& object);

/// What was timed, seconds and bytes of the policy's steps and of dense ones, and the terms.
nlohmann::ordered_json attention_speed_json(const AttentionSpeedOptions& options,
                                            const AttentionSpeed& speed);

/// An array, an object for each summary.
nlohmann::ordered_json summaries_json(std::span<const PowerLawSummary> summaries);

}  // namespace sift
