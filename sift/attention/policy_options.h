#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "sift/attention/policy.h"

namespace sift {

/// One `name=value` option of policy strings.
struct PolicyOption {
  PolicyHelp help;
  /// Reads `value` into the policy. Returns false, and leaves the policy alone, when the value is
  /// not one that help.values describes.
  bool (*set)(Policy& policy, std::string_view value);
  /// The value that the policy has, as set() reads it; the shortest form of numbers.
  std::string (*get)(const Policy& policy);
};

/// Reads a decimal number as options have it; nothing for other text, NaN and infinities included.
std::optional<double> parse_real(std::string_view text);
/// The shortest text that parse_real takes for the same number.
std::string format_real(double value);

/// Every option, in the order in which canonical names write them.
std::span<const PolicyOption> policy_options();

}  // namespace sift
