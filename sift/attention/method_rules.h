#pragma once

#include <cmath>
#include <cstdint>

#include "sift/attention/policy.h"
#include "sift/attention/sidecars.h"
#include "sift/attention/statistics.h"
#include "sift/core/host_device.h"
#include "sift/sifting/power_law.h"

// What one row does to the state of one query head or KV head. AttentionState applies these rules
// on the host, kernels apply them beside a cache on a device.

namespace sift {

/// How one row attends.
enum class RowMode : std::uint8_t {
  dense,   ///< exact attention
  record,  ///< exact attention, and the quantile of its scores goes to the fit
  sift,    ///< keys above the threshold only
};

/// A row of a request as policies see it. Position, cache slot and visible count are three
/// different numbers; policies know only the last.
struct RowIdentity {
  std::int64_t visible = 0;    ///< S: keys the row sees, its own included
  std::int64_t generated = 0;  ///< 1 for the first row after the prompt, 0 for prompt rows
};

/// State of one query head in one layer.
struct HeadState {
  LogLogFit fit;
  PowerLaw law;
  double correction = 0;  ///< c of `adapt`, added to ln η, within ±4
  bool fitted = false;
};

/// What a kernel reports of one query head of a sifted row.
struct HeadFacts {
  std::int64_t kept = 0;           ///< keys kept, forced ones included
  std::int64_t kept_eligible = 0;  ///< keys kept because their score passed
  double kept_mass = 0;            ///< softmax mass of the kept keys, in [0, 1]
  bool empty = false;              ///< no key was kept before the rule of EmptyRow applied
};

/// What a kernel reports of one KV head of a sifted row.
struct GroupFacts {
  std::int64_t union_rows = 0;      ///< rows of V read: kept by any head of the group
  std::int64_t union_eligible = 0;  ///< of them, those not forced
  std::int64_t candidate_rows = 0;  ///< rows of K read after an estimate: candidates of any head
};

/// The numbers of a policy that the rules need, for one request.
struct MethodOptions {
  double tau = 0.875;
  FitKind fit = FitKind::ols;
  double adapt = 0;
  AdaptTarget adapt_target = AdaptTarget::head;
  std::int64_t decode_records = 128;  ///< generated rows that record; 0 where the prompt does
  std::int64_t sink = 0;
  std::int64_t recent = 0;
  std::int64_t dense_rows = 0;
  bool estimates = false;  ///< rows that sift read shadows of all keys and keys of candidates
  bool evicts = false;     ///< rows that sift read the keys and values that are still cached
};

inline MethodOptions method_options(const Policy& policy, Calibrate calibrate) {
  return {policy.tau,
          policy.fit,
          policy.adapt,
          policy.adapt_target,
          policy.select == Select::above && calibrate == Calibrate::decode ? policy.warmup : 0,
          policy.sink,
          policy.recent,
          policy.dense_rows,
          keeps_key_shadow(policy),
          evicts(policy)};
}

/// Bound of the correction c that `adapt` adds to ln η.
inline constexpr double kLargestCorrection = 4;

SIFT_HOST_DEVICE inline bool is_after_warmup(const MethodOptions& options, const RowIdentity& row) {
  return row.generated > options.decode_records;
}

/// How a generated row of a policy that sifts attends, gate aside.
SIFT_HOST_DEVICE inline RowMode generated_row_mode(const MethodOptions& options,
                                                   const RowIdentity& row) {
  if (!is_after_warmup(options, row)) return RowMode::record;
  return row.visible <= options.dense_rows ? RowMode::dense : RowMode::sift;
}

/// Keys of a row with `visible` keys that are kept or dropped by their score.
SIFT_HOST_DEVICE inline std::int64_t eligible_keys(const MethodOptions& options,
                                                   std::int64_t visible) {
  const std::int64_t eligible = visible - options.sink - options.recent;
  return eligible > 0 ? eligible : 0;
}

/// ⌈share · visible⌉. The product counts as whole within 10⁻⁹.
SIFT_HOST_DEVICE inline std::int64_t share_of_keys(double share, std::int64_t visible) {
  return static_cast<std::int64_t>(std::ceil(share * static_cast<double>(visible) - 1e-9));
}

/// Keys of a row with `visible` keys, ⌈share · visible⌉, that are kept by their rank: those that
/// are kept whatever their score are among them.
SIFT_HOST_DEVICE inline std::int64_t ranked_keys(const MethodOptions& options, double share,
                                                 std::int64_t visible) {
  const std::int64_t budget = share_of_keys(share, visible);
  const std::int64_t eligible = eligible_keys(options, visible);
  const std::int64_t forced = visible - eligible;
  const std::int64_t left = budget > forced ? budget - forced : 0;
  return left < eligible ? left : eligible;
}

/// ln η over `visible` keys, fitting first if that has not happened yet.
SIFT_HOST_DEVICE inline double ln_threshold(HeadState& state, FitKind fit, std::int64_t visible) {
  if (!state.fitted) {
    state.law = state.fit.solve(fit);
    state.fitted = true;
  }
  return state.law.ln_threshold(visible) + state.correction;
}

/// γ clamp(ln(((k + ½) / (n + 1)) / (1 − τ)), −2, 2) of a row that kept k of its n eligible keys: a
/// row that keeps more than intended raises the threshold. The ½ keeps a row without survivors
/// finite; n = 0 teaches nothing.
SIFT_HOST_DEVICE inline double adapt_step(const MethodOptions& options, const RowIdentity& row,
                                          std::int64_t kept_eligible) {
  const std::int64_t eligible = eligible_keys(options, row.visible);
  if (options.adapt == 0 || eligible == 0) return 0;
  const double kept_fraction =
      (static_cast<double>(kept_eligible) + 0.5) / (static_cast<double>(eligible) + 1);
  const double excess = std::log(kept_fraction / (1 - options.tau));
  return std::fmin(std::fmax(excess, -2.0), 2.0) * options.adapt;
}

/// Adds a step of `adapt` to a head's correction.
SIFT_HOST_DEVICE inline void correct(HeadState& state, double step) {
  const double corrected = state.correction + step;
  state.correction = std::fmin(std::fmax(corrected, -kLargestCorrection), kLargestCorrection);
}

/// Counts what a sifted row did with one query head.
SIFT_HOST_DEVICE inline void count_sifted(const MethodOptions& options, const RowIdentity& row,
                                          const HeadFacts& facts, HeadTally& tally) {
  const double pruned = 1 - static_cast<double>(facts.kept) / static_cast<double>(row.visible);
  tally.rows += 1;
  tally.pruned += pruned;
  tally.empty_rows += facts.empty ? 1 : 0;
  if (!is_after_warmup(options, row)) return;
  tally.rows_after_warmup += 1;
  tally.pruned_after_warmup += pruned;
  tally.kept_mass_after_warmup += facts.kept_mass;
}

/// Counts what a sifted row did with one KV head: the rows of K and V that it read.
SIFT_HOST_DEVICE inline void count_sifted(const MethodOptions& options, const RowIdentity& row,
                                          const GroupFacts& facts, GroupTally& tally) {
  const auto visible = static_cast<double>(row.visible);
  tally.sparse_rows += 1;
  tally.value_rows_read += facts.union_rows;
  tally.value_rows_dense += row.visible;
  tally.key_rows_read += options.estimates ? facts.candidate_rows
                         : options.evicts  ? facts.union_rows
                                           : row.visible;
  tally.shadow_rows_read += options.estimates ? row.visible : 0;
  if (!is_after_warmup(options, row)) return;
  tally.rows_after_warmup += 1;
  tally.union_after_warmup += static_cast<double>(facts.union_rows) / visible;
  tally.candidates_after_warmup += static_cast<double>(facts.candidate_rows) / visible;
}

/// Counts a generated row that ran dense: nothing pruned, all mass kept, all K and V rows
/// read.
SIFT_HOST_DEVICE inline void count_dense(const MethodOptions& options, const RowIdentity& row,
                                         HeadTally& tally) {
  const int after = is_after_warmup(options, row) ? 1 : 0;
  tally.rows += 1;
  tally.rows_after_warmup += after;
  tally.kept_mass_after_warmup += after;
}
SIFT_HOST_DEVICE inline void count_dense(const MethodOptions& options, const RowIdentity& row,
                                         GroupTally& tally) {
  const int after = is_after_warmup(options, row) ? 1 : 0;
  tally.dense_rows += 1;
  tally.rows_after_warmup += after;
  tally.union_after_warmup += after;
  tally.candidates_after_warmup += after;
  tally.key_rows_read += row.visible;
  tally.value_rows_read += row.visible;
  tally.value_rows_dense += row.visible;
}

}  // namespace sift
