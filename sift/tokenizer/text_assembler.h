#pragma once

#include <string>
#include <string_view>

namespace sift {

/// Turns bytes that arrive token by token into text that is valid UTF-8 at every moment: a
/// character is held back until its last byte is there. Bytes that cannot be part of a character
/// become U+FFFD, one for each longest prefix of a character.
class TextAssembler {
 public:
  /// Takes the bytes of the next token; returns the text that is now certain, perhaps none.
  std::string push(std::string_view bytes);

  /// Ends the text: a character that lacks bytes becomes U+FFFD. The assembler is then as new.
  std::string finish();

 private:
  std::string pending_;  ///< the beginning of a character, at most 3 bytes
};

}  // namespace sift
