#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sift {

/// Cuts text with one regular expression: every match is a piece, and so is every stretch between
/// matches. Thread-safe once built. Patterns see Unicode properties (PCRE2 with UTF and UCP).
class RegexSplitter {
 public:
  /// Throws bad_file when `pattern` does not compile.
  explicit RegexSplitter(std::string pattern);
  ~RegexSplitter();
  RegexSplitter(RegexSplitter&&) noexcept;
  RegexSplitter& operator=(RegexSplitter&&) noexcept;

  /// Appends the pieces of `text`, valid UTF-8, to `pieces`; together they are `text`. Throws
  /// bad_file when matching exceeds its limits.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace sift
