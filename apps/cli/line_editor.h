#pragma once

#include <memory>
#include <optional>
#include <string>

namespace sift::cli {

/// Reads lines: on a terminal with editing and a history that is kept in a file, elsewhere plainly.
class LineEditor {
 public:
  /// Without `editing` lines are read plainly from a terminal too, and standard output is left
  /// alone.
  LineEditor(std::string history_path, bool editing);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// Whether a person types the lines.
  bool interactive() const { return terminal_ != nullptr; }

  /// The next line without its end; nothing at the end of input. Ctrl-C gives an empty line.
  std::optional<std::string> read(const std::string& prompt);

 private:
  class Terminal;
  std::unique_ptr<Terminal> terminal_;
};

}  // namespace sift::cli
