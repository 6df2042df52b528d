#include "apps/cli/log.h"

namespace sift::cli {

LogLevel& log_level() {
  static LogLevel level = LogLevel::info;
  return level;
}

void write_log(LogLevel level, const std::string& message) {
  if (level > log_level()) return;
  const char* prefix = level == LogLevel::warning ? "warning: " : "";
  std::fflush(stdout);  // so that the two streams keep their order on a terminal
  fmt::print(stderr, "{}{}\n", prefix, message);
}

}  // namespace sift::cli
