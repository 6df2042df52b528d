#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace sift::cli {

// Messages go to standard error, so that standard output holds nothing but results.

enum class LogLevel { error, warning, info, debug };

LogLevel& log_level();
void write_log(LogLevel level, const std::string& message);

/// Writes to standard error. A message that cannot be written ends nothing.
void print_error_text(const std::string& text);

template <class... Arguments>
void log_info(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write_log(LogLevel::info, fmt::format(format, std::forward<Arguments>(arguments)...));
}

template <class... Arguments>
void log_warning(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write_log(LogLevel::warning, fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace sift::cli
