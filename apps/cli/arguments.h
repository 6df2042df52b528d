#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace sift::cli {

// Options that check what they are given: CLI11's own conversions take "nan", "010" or "-1" where
// they should not. Each throws Error (invalid_argument) naming the option and its range.

/// A decimal integer from `low` to `high`.
CLI::Option* add_integer(CLI::App& app, const std::string& name, std::int64_t& value,
                         std::int64_t low, std::int64_t high, const std::string& help);

/// A finite number from `low` to `high`; `open_low` excludes `low` itself.
CLI::Option* add_number(CLI::App& app, const std::string& name, double& value, double low,
                        double high, bool open_low, const std::string& help);

std::int64_t parse_integer(const std::string& option, const std::string& text, std::int64_t low,
                           std::int64_t high);

/// A comma-separated list of integers.
CLI::Option* add_integers(CLI::App& app, const std::string& name, std::vector<std::int64_t>& values,
                          std::int64_t low, std::int64_t high, const std::string& help);

[[noreturn]] void refuse_choice(const std::string& option, const std::string& text,
                                const std::vector<std::string>& known);

/// One of several words.
template <class T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value,
                        const std::vector<std::pair<std::string, T>>& choices,
                        const std::string& help) {
  std::vector<std::string> known;
  std::string default_word;
  for (const auto& [word, meaning] : choices) {
    known.push_back(word);
    if (meaning == value) default_word = word;
  }
  CLI::Option* option = app.add_option_function<std::string>(
      name,
      [&value, choices, known, name](const std::string& text) {
        for (const auto& [word, meaning] : choices) {
          if (word == text) {
            value = meaning;
            return;
          }
        }
        refuse_choice(name, text, known);
      },
      help);
  option->type_name(CLI::detail::join(known, "|"))->default_str(default_word);
  return option;
}

}  // namespace sift::cli
