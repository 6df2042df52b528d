// The methods of strings, lists and dictionaries that templates may call. They are Python's.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sift/tokenizer/jinja/attributes.h"
#include "sift/tokenizer/jinja/operators.h"
#include "sift/tokenizer/jinja/python_format.h"
#include "sift/tokenizer/jinja/text_functions.h"
#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

using StringMethod = Value (*)(Context&, const Text&, const Arguments&);

template <Side side>
Value strip(Context& context, const Text& text, const Arguments& arguments) {
  return strip_text(context, text, side, bind("strip()", arguments, {"chars"})[0]);
}

template <Case to>
Value change(Context& context, const Text& text, const Arguments& arguments) {
  bind("a method that changes case", arguments, {});
  return context.make_text(Text(change_case(text.bytes(), to), text.has_content()));
}

template <bool from_right>
Value split(Context& context, const Text& text, const Arguments& arguments) {
  const auto bound = bind("split()", arguments, {"sep", "maxsplit"});
  return split_text(context, text, bound[0], require_integer("maxsplit", bound[1], -1), from_right);
}

Value replace(Context& context, const Text& text, const Arguments& arguments) {
  const auto bound = bind("replace()", arguments, {"old", "new", "count"});
  if (bound[0] == nullptr || bound[1] == nullptr) fail("replace() needs two strings");
  return replace_text(context, text, require_text("replace()", *bound[0]),
                      require_text("replace()", *bound[1]), require_integer("count", bound[2], -1));
}

template <bool at_end>
bool has_affix(const Text& text, const Value& affix) {
  const std::string& bytes = require_text("startswith() or endswith()", affix).bytes();
  return at_end ? text.bytes().ends_with(bytes) : text.bytes().starts_with(bytes);
}

template <bool at_end>
Value test_affix(Context&, const Text& text, const Arguments& arguments) {
  const auto bound = bind("startswith() or endswith()", arguments, {"affix"});
  if (bound[0] == nullptr) fail("startswith() or endswith() needs a string");
  if (!bound[0]->is_list()) return has_affix<at_end>(text, *bound[0]);
  const auto& all = bound[0]->list().items;
  return std::any_of(all.begin(), all.end(),
                     [&](const Value& each) { return has_affix<at_end>(text, each); });
}

template <bool at_end>
Value remove_affix(Context& context, const Text& text, const Arguments& arguments) {
  const auto bound = bind("removeprefix() or removesuffix()", arguments, {"affix"});
  if (bound[0] == nullptr) fail("removeprefix() or removesuffix() needs a string");
  if (!has_affix<at_end>(text, *bound[0])) return context.make_text(text);
  const std::size_t length = bound[0]->text().size();
  return context.make_text(text.slice(at_end ? 0 : length, text.size() - length));
}

Value join(Context& context, const Text& text, const Arguments& arguments) {
  const auto bound = bind("join()", arguments, {"iterable"});
  if (bound[0] == nullptr) fail("join() needs a list");
  const std::vector<Value> items = context.items(*bound[0]);
  for (const Value& item : items) require_text("join()", item);
  return join_texts(context, items, text);
}

Value find(Context&, const Text& text, const Arguments& arguments) {
  const auto bound = bind("find()", arguments, {"sub"});
  if (bound[0] == nullptr) fail("find() needs a string");
  const std::size_t at = find_text(text.bytes(), require_text("find()", *bound[0]).bytes());
  if (at == std::string::npos) return std::int64_t{-1};
  return static_cast<std::int64_t>(count_characters(std::string_view(text.bytes()).substr(0, at)));
}

Value count(Context&, const Text& text, const Arguments& arguments) {
  const auto bound = bind("count()", arguments, {"sub"});
  if (bound[0] == nullptr) fail("count() needs a string");
  const std::string& part = require_text("count()", *bound[0]).bytes();
  if (part.empty()) return static_cast<std::int64_t>(count_characters(text.bytes()) + 1);
  std::int64_t found = 0;
  for (std::size_t at = find_text(text.bytes(), part); at != std::string::npos; ++found) {
    at = find_text(text.bytes(), part, at + part.size());
  }
  return found;
}

Value split_lines(Context& context, const Text& text, const Arguments& arguments) {
  bind("splitlines()", arguments, {});
  std::vector<Value> lines;
  for (const ByteRange& line : line_ranges(text.bytes())) {
    lines.push_back(context.make_text(text.slice(line.begin, line.end - line.begin)));
  }
  return context.make_list(std::move(lines));
}

template <bool (*holds_for)(char32_t)>
Value test_all(Context&, const Text& text, const Arguments& arguments) {
  bind("a test of characters", arguments, {});
  std::string_view rest = text.bytes();
  if (rest.empty()) return false;
  while (!rest.empty()) {
    const utf8::Step step = utf8::decode_first(rest);
    if (!holds_for(step.code_point)) return false;
    rest.remove_prefix(step.length);
  }
  return true;
}

bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }
bool is_letter_or_digit(char32_t c) { return is_digit(c) || is_letter(c); }

constexpr std::array<std::pair<std::string_view, StringMethod>, 23> kStringMethods = {{
    {"strip", strip<Side::both>},
    {"lstrip", strip<Side::left>},
    {"rstrip", strip<Side::right>},
    {"upper", change<Case::upper>},
    {"lower", change<Case::lower>},
    {"title", change<Case::title>},
    {"capitalize", change<Case::capitalized>},
    {"split", split<false>},
    {"rsplit", split<true>},
    {"replace", replace},
    {"startswith", test_affix<false>},
    {"endswith", test_affix<true>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"join", join},
    {"find", find},
    {"count", count},
    {"splitlines", split_lines},
    {"isdigit", test_all<is_digit>},
    {"isnumeric", test_all<is_digit>},
    {"isspace", test_all<is_python_space>},
    {"isalpha", test_all<is_letter>},
    {"isalnum", test_all<is_letter_or_digit>},
}};

Value dictionary_get(const Dictionary& dictionary, const Arguments& arguments) {
  const auto bound = bind("get()", arguments, {"key", "default"});
  if (bound[0] == nullptr) fail("get() needs a key");
  const Value* found = dictionary.find(*bound[0]);
  if (found != nullptr) return *found;
  return bound[1] != nullptr ? *bound[1] : Value(None{});
}

enum class Part { keys, values, items };

Value dictionary_part(Context& context, const Dictionary& dictionary, Part part) {
  std::vector<Value> all;
  for (const auto& [key, value] : dictionary.entries()) {
    if (part == Part::items) {
      all.push_back(context.make_list({key, value}, true));
    } else {
      all.push_back(part == Part::keys ? key : value);
    }
  }
  return context.make_list(std::move(all));
}

Value make_method(std::string_view name,
                  std::function<Value(Context&, const Arguments&)> function) {
  return std::make_shared<const Callable>(Callable{std::string(name), std::move(function)});
}

}  // namespace

Value find_string_method(const TextPointer& text, std::string_view name) {
  const auto found = std::find_if(kStringMethods.begin(), kStringMethods.end(),
                                  [&](const auto& method) { return method.first == name; });
  if (found == kStringMethods.end()) return Undefined{};
  return make_method(name,
                     [text, method = found->second](Context& context, const Arguments& arguments) {
                       context.charge_deep(Value(text));
                       return method(context, *text, arguments);
                     });
}

Value find_dictionary_method(const DictionaryPointer& dictionary, std::string_view name) {
  if (name == "get") {
    return make_method(name, [dictionary](Context&, const Arguments& arguments) {
      return dictionary_get(*dictionary, arguments);
    });
  }
  static constexpr std::string_view kParts[] = {"keys", "values", "items"};
  const auto* const found = std::find(std::begin(kParts), std::end(kParts), name);
  if (found == std::end(kParts)) return Undefined{};
  const auto part = static_cast<Part>(found - std::begin(kParts));
  return make_method(name, [dictionary, part](Context& context, const Arguments& arguments) {
    bind("keys(), values() or items()", arguments, {});
    return dictionary_part(context, *dictionary, part);
  });
}

Value find_list_method(const ListPointer& list, std::string_view name) {
  if (name != "count" && name != "index") return Undefined{};
  return make_method(
      name,
      [list, counts = name == "count"](Context& context, const Arguments& arguments) -> Value {
        const auto bound = bind("count() or index()", arguments, {"value"});
        if (bound[0] == nullptr) fail("count() or index() needs a value");
        context.charge_deep(Value(list));
        const auto equal = [&](const Value& item) { return are_equal(item, *bound[0]); };
        if (counts)
          return std::int64_t{std::count_if(list->items.begin(), list->items.end(), equal)};
        const auto found = std::find_if(list->items.begin(), list->items.end(), equal);
        if (found == list->items.end()) fail("index() did not find the value");
        return std::int64_t{found - list->items.begin()};
      });
}

}  // namespace sift::jinja
