#pragma once

#include <string>

namespace sift {

/// A stretch of a prompt and where it came from. The text of special tokens means the tokens only
/// in what the template itself wrote; in content, from messages and tools, it is plain text.
struct TextSegment {
  std::string text;
  bool is_content = false;

  friend bool operator==(const TextSegment&, const TextSegment&) = default;
};

}  // namespace sift
