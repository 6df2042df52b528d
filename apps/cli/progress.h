#pragma once

#include <cstdint>
#include <string>

namespace sift::cli {

/// Progress of a long job on standard error: a bar that is drawn over on a terminal, plain lines
/// elsewhere (one per tenth of the work).
class Progress {
 public:
  Progress(std::string title, std::int64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::int64_t done, const std::string& note);

 private:
  std::string title_;
  std::int64_t total_;
  std::int64_t tenths_shown_ = -1;
  bool terminal_;
  bool bar_drawn_ = false;
};

}  // namespace sift::cli
