#include "sift/tokenizer/utf8.h"

#include <algorithm>

namespace sift::utf8 {
namespace {

/// What a lead byte promises: the length of the character and the range of its second byte.
struct Lead {
  std::size_t length;  ///< 0: not a lead byte
  std::uint8_t second_min;
  std::uint8_t second_max;
};

Lead classify_lead(std::uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};  // D800..DFFF are surrogates
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};  // the last plane ends at U+10FFFF
  return {0, 0, 0};
}

std::uint8_t byte_at(std::string_view bytes, std::size_t i) {
  return static_cast<std::uint8_t>(bytes[i]);
}

bool continues(const Lead& lead, std::size_t i, std::uint8_t byte) {
  if (i == 1) return byte >= lead.second_min && byte <= lead.second_max;
  return (byte & 0xC0) == 0x80;
}

char32_t assemble(std::string_view bytes, std::size_t length) {
  if (length == 1) return byte_at(bytes, 0);
  char32_t value = byte_at(bytes, 0) & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) value = (value << 6) | (byte_at(bytes, i) & 0x3Fu);
  return value;
}

}  // namespace

Step decode_first(std::string_view bytes) {
  const Lead lead = classify_lead(byte_at(bytes, 0));
  if (lead.length == 0) return {Status::invalid, 1, 0};
  for (std::size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Status::incomplete, i, 0};
    if (!continues(lead, i, byte_at(bytes, i))) return {Status::invalid, i, 0};
  }
  return {Status::character, lead.length, assemble(bytes, lead.length)};
}

std::size_t find_invalid(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    const Step step = decode_first(bytes.substr(i));
    if (step.status != Status::character) return i;
    i += step.length;
  }
  return std::string_view::npos;
}

void append(std::string& out, char32_t code_point) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  const auto put_tail = [&put](char32_t bits) { put(0x80 | (bits & 0x3F)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put_tail(code_point);
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put_tail(code_point >> 6);
    put_tail(code_point);
  } else {
    put(0xF0 | (code_point >> 18));
    put_tail(code_point >> 12);
    put_tail(code_point >> 6);
    put_tail(code_point);
  }
}

}  // namespace sift::utf8
