#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sift/tokenizer/text_segment.h"

namespace sift::jinja {

/// UTF-8 text that knows of every byte whether it stems from content (messages, tools) or from the
/// template. Operations keep the marks where bytes keep their places; where they do not (changing
/// case, JSON, Python's repr), the result is content as soon as any byte of the input was.
class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool is_content = false)
      : bytes_(std::move(bytes)), marks_(bytes_.size(), is_content ? kContent : kTemplate) {}

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool has_content() const { return marks_.find(kContent) != std::string::npos; }

  void append(const Text& other) { append(other, 0, other.size()); }
  void append(const Text& other, std::size_t begin, std::size_t length) {
    bytes_.append(other.bytes_, begin, length);
    marks_.append(other.marks_, begin, length);
  }
  void append(std::string_view bytes, bool is_content = false) {
    bytes_ += bytes;
    marks_.append(bytes.size(), is_content ? kContent : kTemplate);
  }

  /// `length` bytes from byte `begin`.
  Text slice(std::size_t begin, std::size_t length) const {
    Text part;
    part.append(*this, begin, length);
    return part;
  }

  /// The text as stretches of one origin each, none empty.
  std::vector<TextSegment> segments() const;

 private:
  static constexpr char kTemplate = 0, kContent = 1;
  std::string bytes_;
  std::string marks_;  ///< one for each byte
};

using TextPointer = std::shared_ptr<const Text>;

/// A range of bytes [begin, end).
struct ByteRange {
  std::size_t begin;
  std::size_t end;
};

/// Number of characters (code points) of valid UTF-8.
std::size_t count_characters(std::string_view text);

/// The range of each character.
std::vector<ByteRange> character_ranges(std::string_view text);

/// Whether Python's str.isspace() holds for the character.
bool is_python_space(char32_t character);

enum class Side { left, right, both };

/// What remains after str.strip(), lstrip() or rstrip() with the characters of `set`, or with white
/// space when `set` is null.
ByteRange strip_range(std::string_view text, Side side, const std::string* set = nullptr);

/// The ranges of the lines as str.splitlines() gives them, without line ends.
std::vector<ByteRange> line_ranges(std::string_view text);

/// The character in upper or lower case, itself if it has none; one character stays one (ß stays).
char32_t to_upper(char32_t character);
char32_t to_lower(char32_t character);
bool is_letter(char32_t character);

enum class Case { upper, lower, title, capitalized };

/// str.upper(), lower(), title() and capitalize().
std::string change_case(std::string_view text, Case to);

}  // namespace sift::jinja
