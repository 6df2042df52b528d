#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sift {

/// Results of a long run as JSON lines: the first says what is run, each further one is a result. A
/// line is added whole or not at all, so a run that ended anywhere goes on where it stopped.
class ResultLines {
 public:
  /// Opens `path`, or makes it. `settings`, a JSON object, is what must be the same for a run to go
  /// on; `origin`, another, is kept for the record from when the file was made. What an interrupted
  /// write left behind the last whole line is dropped. Throws Error: input_output for a file that
  /// cannot be written, or that another run writes now; bad_file for one that holds no results,
  /// naming the line; invalid_argument, naming what differs, for results of other settings.
  ResultLines(const std::string& path, const std::string& settings, const std::string& origin);
  ~ResultLines();
  ResultLines(const ResultLines&) = delete;
  ResultLines& operator=(const ResultLines&) = delete;

  const std::string& path() const { return path_; }
  /// The results so far, a JSON object each.
  const std::vector<std::string>& lines() const { return lines_; }

  /// Adds a JSON object; once it returns, the line is on disk. Throws Error (input_output), leaving
  /// the file as it was.
  void add(const std::string& object);

 private:
  void resume(const std::string& settings);
  std::string read_all() const;
  void write(const std::string& line);

  std::string path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;  ///< bytes of whole lines
  std::vector<std::string> lines_;
};

}  // namespace sift
