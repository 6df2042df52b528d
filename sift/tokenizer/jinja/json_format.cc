#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "sift/tokenizer/jinja/context.h"
#include "sift/tokenizer/jinja/python_format.h"
#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

void append_unit(std::string& out, unsigned unit) { out += fmt::format("\\u{:04x}", unit); }

/// A character outside ASCII as one escape, or as two of UTF-16.
void append_utf16(std::string& out, char32_t c) {
  if (c < 0x10000) return append_unit(out, static_cast<unsigned>(c));
  const auto rest = static_cast<unsigned>(c - 0x10000);
  append_unit(out, 0xD800 + (rest >> 10));
  append_unit(out, 0xDC00 + (rest & 0x3FF));
}

bool append_short_escape(std::string& out, char32_t c) {
  static constexpr std::string_view kFrom = "\"\\\n\r\t\b\f", kTo = "\"\\nrtbf";
  const std::size_t at = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos;
  if (at == std::string_view::npos) return false;
  out += '\\';
  out += kTo[at];
  return true;
}

std::string quote_json(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  while (!text.empty()) {
    const utf8::Step step = utf8::decode_first(text);
    const char32_t c = step.code_point;
    if (!append_short_escape(out, c)) {
      if (c < 0x20 || (ensure_ascii && c > 0x7E)) {
        append_utf16(out, c);
      } else {
        out += text.substr(0, step.length);
      }
    }
    text.remove_prefix(step.length);
  }
  return out + "\"";
}

std::string json_float(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return format_float(number);
}

/// Writes one value, keeping the current indentation.
class JsonWriter {
 public:
  explicit JsonWriter(const JsonOptions& options) : options_(options) {}

  void write(const Value& value) {
    if (value.is_list()) return write_list(value.list());
    if (value.is_dictionary()) return write_dictionary(value.dictionary());
    write_scalar(value);
  }
  Text take() { return std::move(out_); }

 private:
  void write_scalar(const Value& value) {
    if (value.is_string()) {
      const Text& text = value.text();
      return out_.append(quote_json(text.bytes(), options_.ensure_ascii), text.has_content());
    }
    if (value.is<None>()) return out_.append("null");
    if (value.is<bool>()) return out_.append(value.as<bool>() ? "true" : "false");
    if (value.is_integer()) return out_.append(fmt::format("{}", value.integer()));
    if (value.is<double>()) return out_.append(json_float(value.number()));
    fail(fmt::format("{} cannot be written as JSON", type_name(value)));
  }

  void write_key(const Value& key) {
    if (key.is_string()) return write_scalar(key);
    if (key.is_list()) fail("a tuple cannot be a key in JSON");
    out_.append("\"");
    write_scalar(key);
    out_.append("\"");
  }

  void new_line() {
    if (!options_.indent) return;
    out_.append("\n");
    for (int i = 0; i < level_; ++i) out_.append(*options_.indent);
  }

  void begin(std::string_view bracket) {
    out_.append(bracket);
    ++level_;
    new_line();
  }

  void end(std::string_view bracket) {
    --level_;
    new_line();
    out_.append(bracket);
  }

  void separate() {
    out_.append(options_.item_separator);
    new_line();
  }

  void write_list(const List& list) {
    if (list.items.empty()) return out_.append("[]");
    begin("[");
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) separate();
      write(list.items[i]);
    }
    end("]");
  }

  void write_dictionary(const Dictionary& dictionary) {
    if (dictionary.entries().empty()) return out_.append("{}");
    auto entries = dictionary.entries();
    if (options_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto& left, const auto& right) {
        return is_less(left.first, right.first);
      });
    }
    begin("{");
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) separate();
      write_key(entries[i].first);
      out_.append(options_.key_separator);
      write(entries[i].second);
    }
    end("}");
  }

  const JsonOptions& options_;
  Text out_;
  int level_ = 0;
};

}  // namespace

Text to_json(const Value& value, const JsonOptions& options) {
  JsonWriter writer(options);
  writer.write(value);
  return writer.take();
}

}  // namespace sift::jinja
