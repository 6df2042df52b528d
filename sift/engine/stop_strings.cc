#include "sift/engine/stop_strings.h"

#include <algorithm>
#include <utility>

#include "sift/core/error.h"

namespace sift {
namespace {

/// Length of the longest end of `text` that begins `stop` without completing it.
std::size_t pending_length(const std::string& text, const std::string& stop) {
  for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.compare(text.size() - length, length, stop, 0, length) == 0) return length;
  }
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) {
      throw Error(ErrorKind::invalid_argument, "a stop string is empty, expected some text");
    }
  }
}

std::string StopStrings::push(const std::string& text) {
  held_ += text;
  std::size_t found = std::string::npos;
  std::size_t pending = 0;
  for (const std::string& stop : stops_) {
    found = std::min(found, held_.find(stop));
    pending = std::max(pending, pending_length(held_, stop));
  }
  stopped_ = found != std::string::npos;
  const std::size_t certain = stopped_ ? found : held_.size() - pending;
  std::string result = held_.substr(0, certain);
  held_.erase(0, stopped_ ? held_.size() : certain);
  return result;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

}  // namespace sift
