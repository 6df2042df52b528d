#pragma once

#include <span>
#include <string_view>

#include "sift/attention/policy.h"

namespace sift {

/// A named set of values for a policy's options. Policy::name is not set.
struct PolicyPreset {
  std::string_view name;  ///< empty for the plain policy
  Policy policy;
};

/// One policy that strings can name.
struct PolicyEntry {
  PolicyHelp help;
  std::span<const PolicyPreset> presets;      ///< the plain one first
  std::span<const std::string_view> options;  ///< names of the options that it takes
};

/// Every policy. A new one is one entry here.
std::span<const PolicyEntry> policy_registry();

}  // namespace sift
