#pragma once

#include <algorithm>
#include <cstdint>

#include "sift/attention/method_rules.h"
#include "sift/attention/policy.h"

// How many rows a policy that evicts keeps cached (docs/method.md, "Eviction"): the same for every
// layer and KV head, whichever rows they are.

namespace sift {

/// The newest rows that stay once the row that sees `visible` rows is done, its own included: the
/// window's, or for heavy hitters half of their budget and at least `recent`.
inline std::int64_t newest_rows(const Policy& policy, std::int64_t visible) {
  std::int64_t newest = policy.recent;
  if (policy.retain == Retain::heavy_hitters) {
    const std::int64_t half =
        policy.budget > 0 ? (policy.budget + 1) / 2 : share_of_keys(policy.keep / 2, visible);
    newest = std::max(newest, half);
  }
  return std::min(newest, visible);
}

/// The rows that stay once that row is done: the budget, or what stays whatever its mass (the first
/// `sink` rows and the newest) where that is more. At most one more than the row before left.
inline std::int64_t retained_rows(const Policy& policy, std::int64_t visible) {
  if (policy.retain == Retain::everything || visible <= policy.dense_rows) return visible;
  std::int64_t rows = std::min(policy.sink + newest_rows(policy, visible), visible);
  if (policy.retain == Retain::heavy_hitters) {
    const std::int64_t budget =
        policy.budget > 0 ? policy.budget : share_of_keys(policy.keep, visible);
    rows = std::max(rows, std::min(std::max<std::int64_t>(budget, 1), visible));
  }
  return rows;
}

}  // namespace sift
