#include "apps/cli/arguments.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "sift/core/error.h"

namespace sift::cli {
namespace {

[[noreturn]] void refuse(const std::string& option, const std::string& text,
                         const std::string& range) {
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} is '{}', expected {}", option, text, range));
}

double parse_number(const std::string& option, const std::string& text, double low, double high,
                    bool open_low) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  if (!whole || !std::isfinite(value) || value < low || value > high ||
      (open_low && value == low)) {
    const std::string upper = std::isfinite(high) ? fmt::format("at most {}", high) : "finite";
    refuse(option, text,
           fmt::format("a number {} {}, {}", open_low ? "above" : "of at least", low, upper));
  }
  return value;
}

}  // namespace

std::int64_t parse_integer(const std::string& option, const std::string& text, std::int64_t low,
                           std::int64_t high) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  const std::size_t first_digit = text.rfind('-', 0) == 0 ? 1 : 0;
  const bool leading_zero = text.size() > first_digit + 1 && text[first_digit] == '0';
  if (!whole || leading_zero || value < low || value > high) {
    refuse(option, text, fmt::format("an integer from {} to {}", low, high));
  }
  return value;
}

CLI::Option* add_integer(CLI::App& app, const std::string& name, std::int64_t& value,
                         std::int64_t low, std::int64_t high, const std::string& help) {
  CLI::Option* option = app.add_option_function<std::string>(
      name,
      [&value, name, low, high](const std::string& text) {
        value = parse_integer(name, text, low, high);
      },
      help);
  option->type_name("N")->default_str(std::to_string(value));
  return option;
}

CLI::Option* add_number(CLI::App& app, const std::string& name, double& value, double low,
                        double high, bool open_low, const std::string& help) {
  CLI::Option* option = app.add_option_function<std::string>(
      name,
      [&value, name, low, high, open_low](const std::string& text) {
        value = parse_number(name, text, low, high, open_low);
      },
      help);
  option->type_name("X")->default_str(fmt::format("{}", value));
  return option;
}

CLI::Option* add_integers(CLI::App& app, const std::string& name, std::vector<std::int64_t>& values,
                          std::int64_t low, std::int64_t high, const std::string& help) {
  CLI::Option* option = app.add_option_function<std::string>(
      name,
      [&values, name, low, high](const std::string& text) {
        values.clear();
        std::size_t begin = 0;
        while (begin <= text.size()) {
          const std::size_t end = std::min(text.find(',', begin), text.size());
          values.push_back(parse_integer(name, text.substr(begin, end - begin), low, high));
          begin = end + 1;
        }
      },
      help);
  option->type_name("N,N,...")->default_str(fmt::format("{}", fmt::join(values, ",")));
  return option;
}

void refuse_choice(const std::string& option, const std::string& text,
                   const std::vector<std::string>& known) {
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} is '{}', expected one of {}", option, text, fmt::join(known, ", ")));
}

}  // namespace sift::cli
