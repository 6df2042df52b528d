#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "sift/attention/automatic_warmup.h"
#include "sift/attention/policy.h"

// Which rows of a prompt `calibrate=prefill` records: the same for every backend.

namespace sift {

/// Prompts shorter than this cannot calibrate.
inline constexpr std::int64_t kMinimumPrefillCalibration = 64;

/// How a request with `prompt_tokens` prompt tokens calibrates: the policy's choice, or `decode`
/// where the prompt is too short for `prefill`.
inline Calibrate calibration(const Policy& policy, std::int64_t prompt_tokens) {
  return prompt_tokens < kMinimumPrefillCalibration ? Calibrate::decode : policy.calibrate;
}

/// Records of a whole warm-up, or the fewest of one that ends on its own.
inline std::int64_t fewest_warmup_rows(const Policy& policy) {
  return policy.automatic_warmup ? AutomaticWarmup::kFewestRows : policy.warmup;
}

// The prefill records start at 16 visible keys and reach 64 times as many after `warmup` of them.
inline constexpr double kFirstPrefillRecord = 16;
inline constexpr double kLog2PrefillRecordSpan = 6;

/// Visible keys of prefill record j: round(16 · 64^(j / (warmup − 1))). REQUIRES: warmup ≥ 2.
inline std::int64_t prefill_record(std::int64_t j, std::int64_t warmup) {
  const double exponent =
      kLog2PrefillRecordSpan * static_cast<double>(j) / static_cast<double>(warmup - 1);
  return std::llround(kFirstPrefillRecord * std::exp2(exponent));
}

/// The real number whose prefill record would be `visible`, unrounded. REQUIRES: visible ≥ 16.
inline double real_prefill_index(std::int64_t visible, std::int64_t warmup) {
  return static_cast<double>(warmup - 1) *
         std::log2(static_cast<double>(visible) / kFirstPrefillRecord) / kLog2PrefillRecordSpan;
}

/// Whether a prompt row with `visible` keys is one that `calibrate=prefill` records: its count is
/// prefill_record(j, warmup) for some j ≥ 0. REQUIRES: warmup ≥ 2.
inline bool is_prefill_record(std::int64_t visible, std::int64_t warmup) {
  if (visible < static_cast<std::int64_t>(kFirstPrefillRecord)) return false;
  // The j whose record is `visible` form an interval around this real number, so if there is one,
  // then one of its neighbours is. No record lies at a half: where 64^(j/(w−1)) is rational, the
  // record is a power of two.
  const std::int64_t nearest = std::llround(real_prefill_index(visible, warmup));
  for (std::int64_t j = std::max<std::int64_t>(nearest - 1, 0); j <= nearest + 1; ++j) {
    if (prefill_record(j, warmup) == visible) return true;
  }
  return false;
}

/// The records with `first` to `last` visible keys, ascending, each once. REQUIRES: warmup ≥ 2.
inline std::vector<std::int64_t> prefill_records(std::int64_t first, std::int64_t last,
                                                 std::int64_t warmup) {
  constexpr auto kFirst = static_cast<std::int64_t>(kFirstPrefillRecord);
  // What rounds to `first` lies above first − 1, so that no index is left out.
  const std::int64_t below = std::max(first - 1, kFirst);
  std::vector<std::int64_t> records;
  for (auto j = static_cast<std::int64_t>(real_prefill_index(below, warmup));; ++j) {
    const std::int64_t record = prefill_record(j, warmup);
    if (record > last) return records;
    const bool is_new = records.empty() || records.back() != record;
    if (record >= first && is_new) records.push_back(record);
  }
}

}  // namespace sift
