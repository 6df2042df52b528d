#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sift/core/key_shadow.h"
#include "sift/sifting/power_law.h"

namespace sift {

// A policy is a composition of choices (docs/architecture.md): from which scores keys are judged
// (estimate), which keys survive (select), what stays cached (retain) and what stands in for the
// keys left out (compensate).

enum class Estimate : std::uint8_t {
  exact,      ///< scores of all keys
  quantised,  ///< scores of all keys' shadows, then exact ones of the candidates
};

enum class Select : std::uint8_t {
  all,      ///< dense attention
  above,    ///< keys whose softmax score exceeds a threshold that a power law predicts
  largest,  ///< a fixed share of the keys, those with the largest scores
};

/// Which rows stay cached; evicted ones are gone for all later rows (attention/retention.h).
enum class Retain : std::uint8_t {
  everything,
  heavy_hitters,  ///< H2O: the newest rows, and those that gathered the most attention
  window,         ///< StreamingLLM: the first rows and the newest
};

enum class Compensate : std::uint8_t {
  none,         ///< Σ_kept a_i V_i, as in the paper
  renormalise,  ///< divided by the kept mass
  mean,         ///< plus (1 − kept mass) · mean of all V rows so far
};

/// Which rows the quantiles for the fit are taken from.
enum class Calibrate : std::uint8_t {
  decode,   ///< the first `warmup` generated rows, as in the paper
  prefill,  ///< prompt rows at geometrically spaced positions
};

/// Whether `attend` may run dense where sifting would be slower.
enum class Gate : std::uint8_t { off, automatic };

/// What a row outputs when no key passes.
enum class EmptyRow : std::uint8_t {
  zero,     ///< the zero vector, as in the paper (algorithm 2)
  highest,  ///< the key with the highest score is kept
};

/// What `adapt` steers to 1 − τ.
enum class AdaptTarget : std::uint8_t {
  head,   ///< each query head's own kept fraction
  group,  ///< the union over the query heads that share a KV head
};

/// One attention policy with all its options. The defaults are the preset `full`.
struct Policy {
  std::string name = "full";  ///< canonical string; parse_policy(name) gives this policy again
  Select select = Select::all;
  Retain retain = Retain::everything;
  Compensate compensate = Compensate::none;
  double keep = 0.125;        ///< share that `largest` or `heavy_hitters` keeps, in (0, 1]
  std::int64_t budget = 0;    ///< rows that `heavy_hitters` keeps, whatever their share; 0 is off
  double tau = 0.875;         ///< intended sparsity: the quantile level, in (0, 1)
  std::int64_t warmup = 128;  ///< records that the fit is made of, ≥ 2
  Calibrate calibrate = Calibrate::decode;
  FitKind fit = FitKind::ols;
  double adapt = 0;  ///< γ of the feedback on the threshold; 0 is off
  AdaptTarget adapt_target = AdaptTarget::head;
  std::int64_t sink = 0;        ///< the first keys that are always kept
  std::int64_t recent = 0;      ///< the newest keys that are always kept, the row's own included
  std::int64_t dense_rows = 0;  ///< rows whose visible count is at most this run dense
  Gate gate = Gate::off;
  EmptyRow empty = EmptyRow::zero;
  Estimate estimate = Estimate::exact;
  ShadowCode bits = ShadowCode::bits4;  ///< of the shadow's codes
  std::int64_t block = 32;              ///< values of a shadow that share a scale: 16, 32 or 64
  double margin = 0.5;  ///< how far below the threshold a candidate's estimate may lie, ≥ 0

  bool operator==(const Policy&) const = default;
};

/// Whether every row attends to every key.
inline bool is_dense(const Policy& policy) {
  return policy.select == Select::all && policy.retain == Retain::everything;
}
/// Whether rows leave the cache.
inline bool evicts(const Policy& policy) { return policy.retain != Retain::everything; }

/// Throws Error (invalid_argument) for choices that do not go together: where rows are evicted,
/// nothing is known of what they would have had of the mass, and keys are not selected besides.
void check_composition(const Policy& policy);

/// Reads a policy string: a name, then options: `full`, `sift`, `sift:tau=0.875,warmup=64`,
/// `sift:paper,warmup=512` (a preset, then changes to it). Throws Error (invalid_argument) that
/// names the offending word, its range, and what is known.
Policy parse_policy(std::string_view text);

/// The canonical string of a policy's choices, whatever its `name` says: the shortest of those
/// that start from a preset and list what differs, in the order of policy_option_help().
std::string policy_name(const Policy& policy);

/// An option that a policy takes, and the value that it has there.
struct PolicySetting {
  std::string_view name;
  std::string value;
};
/// All options of a policy, in the order of policy_option_help().
std::vector<PolicySetting> policy_settings(const Policy& policy);

/// What help and completion show: one entry per policy and per option.
struct PolicyHelp {
  std::string_view name;         ///< "sift", "tau"
  std::string_view values;       ///< "0 < tau < 1"
  std::string_view description;  ///< one sentence
};
std::vector<PolicyHelp> policy_help();
std::vector<PolicyHelp> policy_option_help();

}  // namespace sift
