#include "sift/tokenizer/byte_alphabet.h"

#include <array>

#include "sift/tokenizer/utf8.h"

namespace sift {
namespace {

constexpr std::size_t kShifted = 68;  // bytes that are not printable Latin-1

bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character_of{};
  std::array<std::int16_t, 0x100 + kShifted> byte_of{};  ///< by code point; -1: none

  Alphabet() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const char32_t character = stands_for_itself(byte) ? byte : next++;
      character_of[byte] = character;
      byte_of[character] = static_cast<std::int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet kAlphabet;
  return kAlphabet;
}

}  // namespace

std::string byte_to_alphabet(std::uint8_t byte) {
  std::string out;
  utf8::append(out, alphabet().character_of[byte]);
  return out;
}

std::optional<std::string> alphabet_to_bytes(std::string_view token) {
  std::string bytes;
  while (!token.empty()) {
    const utf8::Step step = utf8::decode_first(token);
    if (step.status != utf8::Status::character) return std::nullopt;
    if (step.code_point >= alphabet().byte_of.size()) return std::nullopt;
    const std::int16_t byte = alphabet().byte_of[step.code_point];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    token.remove_prefix(step.length);
  }
  return bytes;
}

}  // namespace sift
