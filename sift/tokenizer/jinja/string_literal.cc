#include "sift/tokenizer/jinja/string_literal.h"

#include <charconv>

#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

constexpr std::string_view kEscapes = "\\'\"abfnrtv";
constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";

/// Digits of an escape that names a character by its number.
struct Numeric {
  std::size_t skipped;  ///< bytes between the backslash and the digits
  std::size_t digits;
  int base;
};

std::optional<Numeric> classify(std::string_view escape) {
  switch (escape[0]) {
    case 'x':
      return Numeric{1, 2, 16};
    case 'u':
      return Numeric{1, 4, 16};
    case 'U':
      return Numeric{1, 8, 16};
    default:
      break;
  }
  std::size_t octal = 0;
  while (octal < 3 && octal < escape.size() && escape[octal] >= '0' && escape[octal] <= '7')
    ++octal;
  if (octal == 0) return std::nullopt;
  return Numeric{0, octal, 8};
}

/// Appends the character, or returns false when there is none such.
bool append_numeric(std::string& out, std::string_view digits, const Numeric& form) {
  unsigned long value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value, form.base);
  if (digits.size() < form.digits || end.ptr != digits.data() + digits.size()) return false;
  if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return false;
  utf8::append(out, static_cast<char32_t>(value));
  return true;
}

}  // namespace

std::optional<std::string> resolve_escapes(std::string_view inside) {
  std::string out;
  while (!inside.empty()) {
    if (inside[0] != '\\' || inside.size() == 1) {
      out += inside[0];
      inside.remove_prefix(1);
      continue;
    }
    const std::string_view escape = inside.substr(1);
    const std::size_t simple = kEscapes.find(escape[0]);
    std::size_t length = 1;
    if (simple != std::string_view::npos) {
      out += kMeanings[simple];
    } else if (const auto numeric = classify(escape)) {
      length = numeric->skipped + numeric->digits;
      if (!append_numeric(out, escape.substr(numeric->skipped, numeric->digits), *numeric)) {
        return std::nullopt;
      }
    } else if (escape[0] != '\n') {  // a backslash joins lines
      out += '\\';
      out += escape[0];
    }
    inside.remove_prefix(1 + length);
  }
  return out;
}

}  // namespace sift::jinja
