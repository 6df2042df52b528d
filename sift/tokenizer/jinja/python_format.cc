#include "sift/tokenizer/jinja/python_format.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "sift/tokenizer/jinja/context.h"
#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

/// Decimal digits and the power of ten of the first of them.
struct Decimal {
  std::string digits;
  int exponent;
};

Decimal shortest_digits(double magnitude) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + 32, magnitude, std::chars_format::scientific);
  const std::string text(buffer, end.ptr);
  const std::size_t e = text.find('e');
  std::string digits = text.substr(0, e);
  if (digits.size() > 1) digits.erase(1, 1);
  return {digits, std::stoi(text.substr(e + 1))};
}

std::string lay_out(const Decimal& decimal) {
  const auto& [digits, exponent] = decimal;
  const auto count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = count > 1 ? "." + digits.substr(1) : "";
    return fmt::format("{}{}e{}{:02}", digits[0], fraction, exponent < 0 ? '-' : '+',
                       std::abs(exponent));
  }
  if (exponent < 0)
    return "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) {
    return digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  }
  const auto point = static_cast<std::size_t>(exponent) + 1;
  return digits.substr(0, point) + "." + digits.substr(point);
}

bool is_unprintable(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD || (c != 0x20 && is_python_space(c)) ||
         (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF;
}

void append_escape(std::string& out, char32_t c) {
  if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else if (c < 0x100) {
    out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
  } else {
    out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
  }
}

std::string quote_python(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char32_t quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, static_cast<char>(quote));
  while (!text.empty()) {
    const utf8::Step step = utf8::decode_first(text);
    const char32_t c = step.code_point;
    if (c == quote || c == '\\') out += '\\';
    if (is_unprintable(c)) {
      append_escape(out, c);
    } else {
      out += text.substr(0, step.length);
    }
    text.remove_prefix(step.length);
  }
  return out + static_cast<char>(quote);
}

Text list_repr(const List& list) {
  Text out(list.is_tuple ? "(" : "[");
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(", ");
    out.append(to_python_repr(list.items[i]));
  }
  if (list.is_tuple && list.items.size() == 1) out.append(",");
  out.append(list.is_tuple ? ")" : "]");
  return out;
}

Text dictionary_repr(const Dictionary& dictionary) {
  Text out("{");
  for (const auto& [key, value] : dictionary.entries()) {
    if (out.size() > 1) out.append(", ");
    out.append(to_python_repr(key));
    out.append(": ");
    out.append(to_python_repr(value));
  }
  out.append("}");
  return out;
}

}  // namespace

std::string format_float(double number) {
  if (std::isnan(number)) return "nan";
  const std::string sign = std::signbit(number) ? "-" : "";
  if (std::isinf(number)) return sign + "inf";
  return sign + lay_out(shortest_digits(std::abs(number)));
}

Text to_python_repr(const Value& value) {
  if (value.is_undefined()) return Text("Undefined");
  if (value.is<None>()) return Text("None");
  if (value.is<bool>()) return Text(value.as<bool>() ? "True" : "False");
  if (value.is_integer()) return Text(fmt::format("{}", value.integer()));
  if (value.is<double>()) return Text(format_float(value.number()));
  if (value.is_string())
    return Text(quote_python(value.text().bytes()), value.text().has_content());
  if (value.is_list()) return list_repr(value.list());
  if (value.is_dictionary()) return dictionary_repr(value.dictionary());
  fail(fmt::format("{} cannot be printed", type_name(value)));
}

Text to_python_string(const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return Text();
  return to_python_repr(value);
}

}  // namespace sift::jinja
