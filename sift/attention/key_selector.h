#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "sift/attention/method_rules.h"
#include "sift/attention/policy.h"

// Policies that choose keys from exact scores by code of their own, on the host: a class, and one
// call that gives it a name (docs/guides/add-a-policy.md).

namespace sift {

/// What one query head of one row chooses from.
struct HeadScores {
  int layer = 0;
  int head = 0;
  RowIdentity row;
  /// [visible] q · k / √D of every visible key in order, natural logarithms. Some may be −Inf, none
  /// is NaN or +Inf, and one at least is finite.
  std::span<const float> scores;
  double log_sum_exp = 0;  ///< ln Σ exp of them
  /// Keys before the first number and from the second on are kept whatever is chosen (sink,
  /// recent).
  std::int64_t forced_before = 0;
  std::int64_t forced_from = 0;

  bool is_forced(std::int64_t key) const { return key < forced_before || key >= forced_from; }
  /// Softmax mass of one key.
  double mass(std::int64_t key) const {
    return std::exp(static_cast<double>(scores[static_cast<std::size_t>(key)]) - log_sum_exp);
  }
};

/// Chooses the keys of one query head in one layer of one request, which sees its generated rows in
/// order and may keep what it likes from row to row. Different ones run on different threads at
/// once.
class KeySelector {
 public:
  virtual ~KeySelector() = default;

  /// Sets kept[i] of every key i that stays to 1; all are 0 before. Forced keys stay by themselves,
  /// and keys whose score is −Inf never do. Must not throw.
  virtual void select(const HeadScores& head, std::span<char> kept) = 0;
};

/// A number that a custom policy takes as an option; its value is Policy::parameters[help.name].
struct PolicyParameter {
  PolicyHelp help;
  double initial = 0;
  bool (*valid)(double value) = nullptr;  ///< whether help.values describes it
};

/// A policy that is made of a KeySelector for each query head of each layer.
struct CustomPolicy {
  PolicyHelp help;                          ///< help.name is the name in policy strings
  std::vector<PolicyParameter> parameters;  ///< beside compensate, sink, recent and dense_rows
  std::unique_ptr<KeySelector> (*make_selector)(const Policy& policy) = nullptr;
  Compensate compensate = Compensate::renormalise;  ///< unless the string says otherwise
};

/// Makes a policy known to parse_policy, to help and to whatever goes through the registry. Prompts
/// run dense, every generated row selects. Call it before anything asks for policies, as an
/// initialiser of a static variable does, or main. Returns true. Throws Error (invalid_argument)
/// for a name that is taken, and for a parameter with the name of another option.
bool register_policy(const CustomPolicy& policy);

}  // namespace sift
