#pragma once

#include <nlohmann/json.hpp>

#include "sift/attention/policy.h"
#include "sift/attention/statistics.h"

namespace sift {

/// The `attention` object of reports.
nlohmann::ordered_json attention_json(const Policy& policy, const AttentionTotals& totals);

}  // namespace sift
