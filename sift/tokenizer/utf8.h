#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sift::utf8 {

/// What stands at the beginning of a byte string.
enum class Status {
  character,   ///< a whole, valid character
  incomplete,  ///< a proper prefix of a valid character: more bytes could complete it
  invalid,     ///< no valid character begins like this
};

/// One step of decoding. `length` is the number of bytes of the character, or, when it is not
/// whole, of the longest prefix that could have begun one (at least 1): the unit that one U+FFFD
/// replaces.
struct Step {
  Status status;
  std::size_t length;
  char32_t code_point;  ///< 0 unless `status` is `character`
};

/// Decodes the first character of `bytes`, which must not be empty. Overlong forms, surrogates and
/// values above U+10FFFF are invalid (Unicode standard, table 3-7).
Step decode_first(std::string_view bytes);

/// The offset of the first byte that is not part of valid UTF-8, or npos when all of it is valid.
std::size_t find_invalid(std::string_view bytes);

/// Appends the UTF-8 form of `code_point`, a scalar value.
void append(std::string& out, char32_t code_point);

/// U+FFFD in UTF-8.
inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace sift::utf8
