#pragma once

#include <span>
#include <string_view>

#include "sift/attention/key_selector.h"
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
  std::span<const PolicyPreset> presets;             ///< the plain one first
  std::span<const std::string_view> options;         ///< names of the options that it takes
  std::span<const PolicyParameter> parameters = {};  ///< those of them that are its own
};

/// Every policy: those of this list, then those that were registered.
std::span<const PolicyEntry> policy_registry();

}  // namespace sift
