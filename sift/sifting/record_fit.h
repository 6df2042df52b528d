#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "sift/sifting/power_law.h"

// Fits that sums do not tell: they look at every record again, on the host.

namespace sift {

/// One recorded quantile, as LogLogFit takes it.
struct QuantileRecord {
  std::int64_t keys = 0;
  double ln_theta = 0;
};

/// θ(S) = α S^(−β) + γ with γ ≥ 0: a power law that falls to a floor.
struct OffsetPowerLaw {
  PowerLaw power;
  double ln_offset = -HUGE_VAL;  ///< ln γ; −∞ for γ = 0

  /// ln η at `keys` visible keys.
  double ln_threshold(std::int64_t keys) const;
};

/// Records beyond this number are too many for these fits, which take time in its square.
inline constexpr std::int64_t kMostFittedRecords = 4096;

/// The law of `records`, of which `sums` are the sums. Where the sums say that it is degenerate
/// (LogLogFit::solve), it is theirs.
/// - robust: repeated medians (Siegel 1982): −β is the median over records i of the median over
///   records j of another length of (ln θ_j − ln θ_i) / (ln S_j − ln S_i), ln α the median of
///   ln θ + β ln S. Half of the records may lie anywhere before the slope follows them. The law is
///   ill determined where that of least squares is.
/// - offset: γ is one of k/64 of the least recorded θ, k = 0 … 63; for each, α and β are those of
///   least squares of ln(θ − γ) on ln S; the law is the one with the least sum of squares of
///   ln θ − ln(α S^(−β) + γ), of equal ones that with the lower γ. γ = 0 is ordinary least squares.
/// Of an even number of values the median is the mean of the two in the middle.
/// REQUIRES: `kind` is robust or offset.
OffsetPowerLaw fit_records(FitKind kind, const LogLogFit& sums,
                           std::span<const QuantileRecord> records);

}  // namespace sift
