#include "sift/tokenizer/jinja/text.h"

#include <locale.h>
#include <wctype.h>

#include "sift/core/error.h"
#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

/// Case of all of Unicode, whatever locale the process is in.
locale_t unicode_locale() {
  static const locale_t kLocale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (kLocale == nullptr) {
    throw Error(ErrorKind::input_output,
                "the system lacks the locale C.UTF-8, expected for letters");
  }
  return kLocale;
}

bool is_ascii(char32_t character) { return character < 0x80; }

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

char32_t character_at(std::string_view text, std::size_t begin) {
  return utf8::decode_first(text.substr(begin)).code_point;
}

/// The beginning of the character that ends before `end`.
std::size_t previous_character(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

char32_t cased(char32_t c, bool upper) { return upper ? to_upper(c) : to_lower(c); }

}  // namespace

std::vector<TextSegment> Text::segments() const {
  std::vector<TextSegment> all;
  for (std::size_t begin = 0; begin < size();) {
    std::size_t end = marks_.find(marks_[begin] == kContent ? kTemplate : kContent, begin);
    if (end == std::string::npos) end = size();
    all.push_back({bytes_.substr(begin, end - begin), marks_[begin] == kContent});
    begin = end;
  }
  return all;
}

std::size_t count_characters(std::string_view text) {
  std::size_t count = 0;
  for (char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

std::vector<ByteRange> character_ranges(std::string_view text) {
  std::vector<ByteRange> ranges;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = begin + utf8::decode_first(text.substr(begin)).length;
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

ByteRange strip_range(std::string_view text, Side side, const std::string* set) {
  const auto goes = [&](std::size_t from, std::size_t to) {
    if (set == nullptr) return is_python_space(character_at(text, from));
    return set->find(text.substr(from, to - from)) != std::string::npos;
  };
  ByteRange rest{0, text.size()};
  while (side != Side::right && rest.begin < rest.end) {
    const std::size_t next = rest.begin + utf8::decode_first(text.substr(rest.begin)).length;
    if (!goes(rest.begin, next)) break;
    rest.begin = next;
  }
  while (side != Side::left && rest.end > rest.begin) {
    const std::size_t last = previous_character(text, rest.end);
    if (!goes(last, rest.end)) break;
    rest.end = last;
  }
  return rest;
}

std::vector<ByteRange> line_ranges(std::string_view text) {
  std::vector<ByteRange> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const utf8::Step step = utf8::decode_first(text.substr(i));
    std::size_t next = i + step.length;
    if (is_line_end(step.code_point)) {
      lines.push_back({begin, i});
      if (text.substr(i, 2) == "\r\n") ++next;
      begin = next;
    }
    i = next;
  }
  if (begin < text.size()) lines.push_back({begin, text.size()});
  return lines;
}

char32_t to_upper(char32_t c) {
  if (is_ascii(c)) return c >= 'a' && c <= 'z' ? c - 32 : c;
  return static_cast<char32_t>(towupper_l(static_cast<wint_t>(c), unicode_locale()));
}

char32_t to_lower(char32_t c) {
  if (is_ascii(c)) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  return static_cast<char32_t>(towlower_l(static_cast<wint_t>(c), unicode_locale()));
}

bool is_letter(char32_t c) {
  if (is_ascii(c)) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return iswalpha_l(static_cast<wint_t>(c), unicode_locale()) != 0;
}

std::string change_case(std::string_view text, Case to) {
  std::string out;
  bool at_start = true;
  for (const ByteRange& range : character_ranges(text)) {
    const char32_t c = character_at(text, range.begin);
    utf8::append(out, cased(c, to == Case::upper || (to != Case::lower && at_start)));
    at_start = to == Case::title && to_upper(c) == to_lower(c);
  }
  return out;
}

}  // namespace sift::jinja
