// The filters of strings, numbers and single values.

#include "sift/tokenizer/jinja/filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "sift/tokenizer/jinja/python_format.h"
#include "sift/tokenizer/jinja/text_functions.h"
#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

template <Case to>
Value change(Context& context, const Value& input, const Arguments& arguments) {
  bind("a filter that changes case", arguments, {});
  const Text text = to_python_string(input);
  return context.make_text(Text(change_case(text.bytes(), to), text.has_content()));
}

/// Jinja's title: a word begins after white space or one of -({[<.
Value title(Context& context, const Value& input, const Arguments& arguments) {
  bind("title", arguments, {});
  const Text text = to_python_string(input);
  std::string out;
  bool at_start = true;
  for (const ByteRange& range : character_ranges(text.bytes())) {
    const char32_t c =
        utf8::decode_first(std::string_view(text.bytes()).substr(range.begin)).code_point;
    utf8::append(out, at_start ? to_upper(c) : to_lower(c));
    static constexpr std::u32string_view kBefore = U"-({[<";
    at_start = is_python_space(c) || kBefore.find(c) != std::u32string_view::npos;
  }
  return context.make_text(Text(out, text.has_content()));
}

Value trim(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("trim", arguments, {"chars"});
  return strip_text(context, to_python_string(input), Side::both, bound[0]);
}

Value replace(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("replace", arguments, {"old", "new", "count"});
  if (bound[0] == nullptr || bound[1] == nullptr) fail("replace needs what to replace and by what");
  const bool counted = bound[2] != nullptr && !bound[2]->is<None>();
  return replace_text(context, to_python_string(input), to_python_string(*bound[0]),
                      to_python_string(*bound[1]),
                      counted ? require_integer("replace", bound[2], -1) : -1);
}

Value to_string(Context& context, const Value& input, const Arguments& arguments) {
  bind("string", arguments, {});
  context.charge_deep(input);
  return context.make_text(to_python_string(input));
}

Value same(Context&, const Value& input, const Arguments& arguments) {
  bind("safe", arguments, {});
  return input;
}

Value indent(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("indent", arguments, {"width", "first", "blank"});
  const bool by_text = bound[0] != nullptr && bound[0]->is_string();
  const auto width =
      by_text ? 0 : std::clamp<std::int64_t>(require_integer("indent", bound[0], 4), 0, 4096);
  const Text unit =
      by_text ? bound[0]->text() : Text(std::string(static_cast<std::size_t>(width), ' '));
  const bool first = bound[1] != nullptr && is_true(*bound[1]);
  const bool blank = bound[2] != nullptr && is_true(*bound[2]);
  const Text text = to_python_string(input);
  std::vector<ByteRange> lines = line_ranges(text.bytes());
  // A newline at the end begins one more, empty line.
  if (text.size() == 0 || lines.back().end < text.size())
    lines.push_back({text.size(), text.size()});
  context.charge(lines.size() * (1 + unit.size() / context.limits().bytes_per_step));
  Text out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool is_empty = lines[i].begin == lines[i].end;
    if (i > 0) out.append("\n");
    if (i == 0 ? first : blank || !is_empty) out.append(unit);
    out.append(text, lines[i].begin, lines[i].end - lines[i].begin);
  }
  return context.make_text(std::move(out));
}

/// Python's float() of a string; nothing when it is not one.
std::optional<double> parse_float(std::string_view text) {
  const ByteRange range = strip_range(text, Side::both);
  std::string_view digits = text.substr(range.begin, range.end - range.begin);
  if (digits.starts_with('+')) digits.remove_prefix(1);
  double number = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || result.ec != std::errc() || result.ptr != digits.data() + digits.size()) {
    return std::nullopt;
  }
  return number;
}

std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  const ByteRange range = strip_range(text, Side::both);
  std::string_view digits = text.substr(range.begin, range.end - range.begin);
  if (digits.starts_with('+')) digits.remove_prefix(1);
  std::int64_t number = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  if (digits.empty() || result.ec != std::errc() || result.ptr != digits.data() + digits.size()) {
    return std::nullopt;
  }
  return number;
}

std::optional<std::int64_t> truncate(double number) {
  if (!(std::abs(number) < 9.2e18)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

Value to_integer(Context&, const Value& input, const Arguments& arguments) {
  const auto bound = bind("int", arguments, {"default", "base"});
  const Value fallback = bound[0] != nullptr ? *bound[0] : Value(std::int64_t{0});
  const std::int64_t base = require_integer("int", bound[1], 10);
  if (base < 2 || base > 36) fail(fmt::format("int has the base {}, expected 2 to 36", base));
  if (input.is_undefined()) fail("int was asked of an undefined value");
  if (input.is_integer()) return input.integer();
  std::optional<std::int64_t> whole;
  if (input.is<double>()) whole = truncate(input.number());
  if (input.is_string()) {
    whole = parse_integer(input.text().bytes(), static_cast<int>(base));
    const auto real = parse_float(input.text().bytes());
    if (!whole && real) whole = truncate(*real);
  }
  return whole ? Value(*whole) : fallback;
}

Value to_float(Context&, const Value& input, const Arguments& arguments) {
  const auto bound = bind("float", arguments, {"default"});
  if (input.is_undefined()) fail("float was asked of an undefined value");
  if (input.is_number()) return input.number();
  if (input.is_string()) {
    if (const auto number = parse_float(input.text().bytes())) return *number;
  }
  return bound[0] != nullptr ? *bound[0] : Value(0.0);
}

Value absolute(Context&, const Value& input, const Arguments& arguments) {
  bind("abs", arguments, {});
  if (!input.is_number()) fail(fmt::format("abs needs a number, found {}", type_name(input)));
  if (input.is<double>()) return std::abs(input.number());
  if (input.integer() == INT64_MIN) fail("an integer is out of the range of 64 bits");
  return std::int64_t{std::abs(input.integer())};
}

Value round_number(Context&, const Value& input, const Arguments& arguments) {
  const auto bound = bind("round", arguments, {"precision", "method"});
  if (!input.is_number()) fail(fmt::format("round needs a number, found {}", type_name(input)));
  const auto precision = std::clamp<std::int64_t>(require_integer("round", bound[0], 0), -300, 300);
  const std::string_view method =
      bound[1] != nullptr ? std::string_view(require_text("round", *bound[1]).bytes()) : "common";
  const double number = input.number(), scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(number * scale) / scale;
  if (method == "floor") return std::floor(number * scale) / scale;
  if (method != "common") fail("round knows the methods common, ceil and floor");
  if (input.is_integer() && precision >= 0) return input;
  if (input.is_integer()) return truncate(std::nearbyint(number * scale) / scale).value_or(0);
  if (!std::isfinite(number) || precision < 0) return std::nearbyint(number * scale) / scale;
  // The decimal expansion is exact, so halves go to even only where they are halves, as in Python.
  return std::stod(fmt::format("{:.{}f}", number, precision));
}

Value json(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound =
      bind("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ensure_ascii = bound[0] != nullptr && is_true(*bound[0]);
  if (bound[1] != nullptr && bound[1]->is_string()) options.indent = bound[1]->text().bytes();
  if (bound[1] != nullptr && bound[1]->is_integer()) {
    const auto width = std::clamp<std::int64_t>(bound[1]->integer(), 0, 64);
    options.indent = std::string(static_cast<std::size_t>(width), ' ');
  }
  if (options.indent) options.item_separator = std::string(1, ',');
  if (bound[2] != nullptr && bound[2]->is_list() && bound[2]->list().items.size() == 2) {
    options.item_separator = require_text("tojson", bound[2]->list().items[0]).bytes();
    options.key_separator = require_text("tojson", bound[2]->list().items[1]).bytes();
  }
  options.sort_keys = bound[3] != nullptr && is_true(*bound[3]);
  const std::size_t line = options.indent.value_or("").size() * kMaxExtent.depth +
                           options.item_separator.size() + options.key_separator.size();
  context.charge(extent_of(input).weight * (1 + line / context.limits().bytes_per_step));
  return context.make_text(to_json(input, options));
}

constexpr std::array<std::pair<std::string_view, Filter>, 14> kFilters = {{
    {"upper", change<Case::upper>},
    {"lower", change<Case::lower>},
    {"capitalize", change<Case::capitalized>},
    {"title", title},
    {"trim", trim},
    {"replace", replace},
    {"string", to_string},
    {"safe", same},
    {"indent", indent},
    {"int", to_integer},
    {"float", to_float},
    {"abs", absolute},
    {"round", round_number},
    {"tojson", json},
}};

}  // namespace

Filter find_text_filter(std::string_view name) {
  const auto found = std::find_if(kFilters.begin(), kFilters.end(),
                                  [&](const auto& each) { return each.first == name; });
  return found == kFilters.end() ? nullptr : found->second;
}

Value apply_filter(Context& context, std::string_view name, const Value& input,
                   const Arguments& arguments) {
  Filter filter = find_text_filter(name);
  if (filter == nullptr) filter = find_sequence_filter(name);
  if (filter == nullptr) fail(fmt::format("the filter '{}' is unknown", name));
  context.charge_items(input);
  return filter(context, input, arguments);
}

}  // namespace sift::jinja
