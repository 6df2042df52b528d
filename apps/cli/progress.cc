#include "apps/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "apps/cli/log.h"

namespace sift::cli {

Progress::Progress(std::string title, std::int64_t total)
    : title_(std::move(title)), total_(total), terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (bar_drawn_) print_error_text("\n");
}

void Progress::update(std::int64_t done, const std::string& note) {
  if (log_level() < LogLevel::info) return;
  constexpr std::int64_t kBarWidth = 30;
  if (terminal_) {
    const auto filled = static_cast<std::size_t>(done * kBarWidth / total_);
    print_error_text(fmt::format("\r{} [{}{}] {}/{} {}\x1b[K", title_, std::string(filled, '#'),
                                 std::string(kBarWidth - filled, '.'), done, total_, note));
    bar_drawn_ = true;
  } else if (const std::int64_t tenths = done * 10 / total_; tenths > tenths_shown_) {
    tenths_shown_ = tenths;
    log_info("{} {}/{} {}", title_, done, total_, note);
  }
}

}  // namespace sift::cli
