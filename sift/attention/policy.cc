#include "sift/attention/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "sift/attention/policy_options.h"
#include "sift/attention/policy_registry.h"
#include "sift/core/error.h"

namespace sift {
namespace {

constexpr std::size_t kLongestText = 4096;
constexpr std::size_t kLongestQuote = 64;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::invalid_argument, message);
}

// `word` for a message: in quotes, printable ASCII only, of bounded length.
std::string quoted(std::string_view word) {
  std::string out = "'";
  for (const char c : word.substr(0, kLongestQuote)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte >= 0x20 && byte < 0x7f ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  out += word.size() > kLongestQuote ? "...'" : "'";
  return out;
}

// Cuts `text` at the first `separator`: what stands before it, and what behind, if it is there.
std::pair<std::string_view, std::optional<std::string_view>> cut(std::string_view text,
                                                                 char separator) {
  const std::size_t at = text.find(separator);
  if (at == std::string_view::npos) return {text, std::nullopt};
  return {text.substr(0, at), text.substr(at + 1)};
}

void append_word(std::string& list, std::string_view word) {
  if (!list.empty()) list += ", ";
  list += word;
}

bool takes(const PolicyEntry& entry, std::string_view option) {
  return std::ranges::find(entry.options, option) != entry.options.end();
}

// "presets: paper; options: tau, warmup".
std::string known_words(const PolicyEntry& entry) {
  std::string presets;
  for (const PolicyPreset& preset : entry.presets.subspan(1)) append_word(presets, preset.name);
  std::string options;
  for (const std::string_view option : entry.options) append_word(options, option);
  if (options.empty() && presets.empty()) return "it takes no options";
  return fmt::format("presets, directly after the colon: {}; options: {}",
                     presets.empty() ? "none" : presets, options.empty() ? "none" : options);
}

const PolicyEntry& find_policy(std::string_view name) {
  std::string known;
  for (const PolicyEntry& entry : policy_registry()) {
    if (entry.help.name == name) return entry;
    append_word(known, entry.help.name);
  }
  refuse(fmt::format("unknown attention policy {}; known policies: {}", quoted(name), known));
}

const PolicyPreset* find_preset(const PolicyEntry& entry, std::string_view name) {
  if (name.empty()) return nullptr;
  const auto found = std::ranges::find(entry.presets, name, &PolicyPreset::name);
  return found == entry.presets.end() ? nullptr : &*found;
}

const PolicyOption* find_option(const PolicyEntry& entry, std::string_view name) {
  if (!takes(entry, name)) return nullptr;
  const auto options = policy_options();
  const auto found =
      std::ranges::find_if(options, [&](const PolicyOption& o) { return o.help.name == name; });
  return found == options.end() ? nullptr : &*found;
}

// Reads the comma-separated words behind the colon into one policy.
class OptionReader {
 public:
  explicit OptionReader(const PolicyEntry& entry)
      : entry_(entry), policy_(entry.presets.front().policy) {}

  Policy read(std::string_view words) {
    std::optional<std::string_view> rest = words;
    for (bool first = true; rest; first = false) {
      const auto [word, behind] = cut(*rest, ',');
      rest = behind;
      const PolicyPreset* preset = find_preset(entry_, word);
      if (first && preset != nullptr) {
        policy_ = preset->policy;
      } else {
        set_option(word, preset != nullptr);
      }
    }
    if (policy_.budget > 0 && is_seen("keep")) {
      refuse(
          fmt::format("options 'keep' and 'budget' of attention policy '{}' are both given: "
                      "budget is the number of rows in place of their share",
                      entry_.help.name));
    }
    return policy_;
  }

 private:
  bool is_seen(std::string_view name) const {
    return std::ranges::any_of(seen_,
                               [&](const auto* option) { return option->help.name == name; });
  }

  void set_option(std::string_view word, bool is_preset) {
    const std::string_view policy = entry_.help.name;
    if (is_preset) {
      refuse(fmt::format("preset {} must stand directly after '{}:'", quoted(word), policy));
    }
    const auto [name, value] = cut(word, '=');
    const PolicyOption* option = find_option(entry_, name);
    if (option == nullptr) {
      refuse(fmt::format("attention policy '{}' does not know {}; {}", policy, quoted(word),
                         known_words(entry_)));
    }
    if (std::ranges::find(seen_, option) != seen_.end()) {
      refuse(fmt::format("option '{}' of attention policy '{}' is given twice", name, policy));
    }
    seen_.push_back(option);
    if (!value || !option->set(policy_, *value)) {
      refuse(fmt::format("option '{}' of attention policy '{}' is {}, expected {}", name, policy,
                         value ? quoted(*value) : "without a value", option->help.values));
    }
  }

  const PolicyEntry& entry_;
  Policy policy_;
  std::vector<const PolicyOption*> seen_;
};

// The string that names `policy` as changes to a preset.
std::string name_from_preset(const PolicyEntry& entry, const PolicyPreset& preset,
                             const Policy& policy) {
  std::string words(preset.name);
  for (const PolicyOption& option : policy_options()) {
    if (!takes(entry, option.help.name)) continue;
    const std::string value = option.get(policy);
    if (value == option.get(preset.policy)) continue;
    if (!words.empty()) words += ',';
    words += fmt::format("{}={}", option.help.name, value);
  }
  return words.empty() ? std::string(entry.help.name)
                       : fmt::format("{}:{}", entry.help.name, words);
}

// The policy's registry entry, told by its composition.
const PolicyEntry& entry_of(const Policy& policy) {
  for (const PolicyEntry& entry : policy_registry()) {
    const Policy& plain = entry.presets.front().policy;
    if (plain.select == policy.select && plain.retain == policy.retain) return entry;
  }
  refuse("the attention policy's choices are not a composition that has a name");
}

}  // namespace

Policy parse_policy(std::string_view text) {
  if (text.size() > kLongestText) {
    refuse(fmt::format("attention policy of {} bytes, expected at most {}", text.size(),
                       kLongestText));
  }
  const auto [name, words] = cut(text, ':');
  const PolicyEntry& entry = find_policy(name);
  Policy policy = words ? OptionReader(entry).read(*words) : entry.presets.front().policy;
  policy.name = policy_name(policy);
  check_composition(policy);
  return policy;
}

void check_composition(const Policy& policy) {
  if (!evicts(policy)) return;
  if (policy.compensate != Compensate::none) {
    refuse(
        fmt::format("attention policy '{}' evicts keys, and nothing is known of the mass that "
                    "they would have had: it takes no 'compensate' but none",
                    policy.name));
  }
  if (policy.select != Select::all || policy.estimate != Estimate::exact) {
    refuse(
        fmt::format("attention policy '{}' selects among keys and evicts them besides, which "
                    "does not go together",
                    policy.name));
  }
}

std::string policy_name(const Policy& policy) {
  const PolicyEntry& entry = entry_of(policy);
  std::string shortest;
  for (const PolicyPreset& preset : entry.presets) {
    std::string name = name_from_preset(entry, preset, policy);
    if (shortest.empty() || name.size() < shortest.size()) shortest = std::move(name);
  }
  return shortest;
}

std::vector<PolicySetting> policy_settings(const Policy& policy) {
  const PolicyEntry& entry = entry_of(policy);
  std::vector<PolicySetting> settings;
  for (const PolicyOption& option : policy_options()) {
    if (takes(entry, option.help.name)) {
      settings.push_back({option.help.name, option.get(policy)});
    }
  }
  return settings;
}

std::vector<PolicyHelp> policy_help() {
  std::vector<PolicyHelp> help;
  for (const PolicyEntry& entry : policy_registry()) help.push_back(entry.help);
  return help;
}

std::vector<PolicyHelp> policy_option_help() {
  std::vector<PolicyHelp> help;
  for (const PolicyOption& option : policy_options()) help.push_back(option.help);
  return help;
}

}  // namespace sift
