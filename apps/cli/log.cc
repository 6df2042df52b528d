#include "apps/cli/log.h"

#include <cstdio>

namespace sift::cli {

LogLevel& log_level() {
  static LogLevel level = LogLevel::info;
  return level;
}

void write_log(LogLevel level, const std::string& message) {
  if (level > log_level()) return;
  const char* prefix = level == LogLevel::warning ? "warning: " : "";
  print_error_text(prefix + message + "\n");
}

void print_error_text(const std::string& text) {
  // There is nowhere left to say that it failed.
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr));
}

}  // namespace sift::cli
