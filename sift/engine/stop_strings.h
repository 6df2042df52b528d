#pragma once

#include <string>
#include <vector>

namespace sift {

/// Watches streamed text for stop strings: holds back what may be the beginning of one.
class StopStrings {
 public:
  /// Throws Error (invalid_argument) for an empty stop string.
  explicit StopStrings(std::vector<std::string> stops);

  /// Takes new text; returns what is certain to stand before any stop string.
  std::string push(const std::string& text);
  /// Returns what was held back at the end of generation.
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace sift
