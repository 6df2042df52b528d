#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sift::jinja {

enum class TokenKind {
  data,  ///< text outside of tags
  print_begin,
  print_end,
  tag_begin,
  tag_end,
  name,
  string,  ///< with its escapes resolved
  integer,
  real,
  symbol,  ///< an operator or bracket
  end,
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;
};

/// Cuts a template into tokens, the last of kind `end`. White space is removed around tags as
/// transformers sets it up (trim_blocks, lstrip_blocks, no final newline) and as `-` and `+` ask.
/// Throws bad_file, naming the line.
std::vector<Token> tokenize(std::string_view source);

/// Throws bad_file about a line of a template.
[[noreturn]] void fail_at(int line, const std::string& message);

}  // namespace sift::jinja
