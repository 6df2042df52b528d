#include "sift/tokenizer/jinja/attributes.h"

#include <fmt/format.h>

#include <charconv>

namespace sift::jinja {
namespace {

[[noreturn]] void fail_undefined(const Value& object, std::string_view part) {
  const std::string_view name = object.as<Undefined>().name;
  fail(fmt::format("'{}' of {} was asked for, but that is undefined", part,
                   name.empty() ? "a value" : fmt::format("'{}'", name)));
}

Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto count = static_cast<std::int64_t>(loop.items->items.size());
  const auto index = static_cast<std::int64_t>(loop.index);
  const auto item_at = [&](std::int64_t at) {
    return at >= 0 && at < count ? loop.items->items[at] : Value(Undefined{"the loop's neighbour"});
  };
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == count;
  if (name == "length") return count;
  if (name == "revindex") return count - index;
  if (name == "revindex0") return count - index - 1;
  if (name == "previtem") return item_at(index - 1);
  if (name == "nextitem") return item_at(index + 1);
  if (name == "depth") return std::int64_t{1};  // no loop calls itself
  if (name == "depth0") return std::int64_t{0};
  return Undefined{};
}

Value loop_cycle(const LoopPointer& loop) {
  return std::make_shared<const Callable>(
      Callable{"loop.cycle", [loop](Context&, const Arguments& arguments) -> Value {
                 if (arguments.positional.empty()) fail("loop.cycle() needs values");
                 return arguments.positional[loop->index % arguments.positional.size()];
               }});
}

Value element_at(Context& context, const Value& sequence, std::int64_t index) {
  if (sequence.is_list()) {
    const auto& items = sequence.list().items;
    const auto size = static_cast<std::int64_t>(items.size());
    if (index < -size || index >= size) return Undefined{};
    return items[index < 0 ? index + size : index];
  }
  context.charge_items(sequence);
  const auto characters = character_ranges(sequence.text().bytes());
  const auto size = static_cast<std::int64_t>(characters.size());
  if (index < -size || index >= size) return Undefined{};
  const ByteRange& range = characters[index < 0 ? index + size : index];
  return sequence.text().slice(range.begin, range.end - range.begin);
}

Value find_entry(const Value& object, const Value& key) {
  const bool can_be_key = key.is_string() || key.is_number() || key.is<None>();
  if (object.is_dictionary() && can_be_key) {
    const Value* found = object.dictionary().find(key);
    if (found != nullptr) return *found;
  }
  if (object.is<Namespace*>() && key.is_string()) {
    const auto& attributes = object.as<Namespace*>()->attributes;
    const auto found = attributes.find(key.text().bytes());
    if (found != attributes.end()) return found->second;
  }
  return Undefined{};
}

Value find_method(const Value& object, std::string_view name) {
  if (object.is_string()) return find_string_method(object.as<TextPointer>(), name);
  if (object.is_dictionary()) return find_dictionary_method(object.as<DictionaryPointer>(), name);
  if (object.is_list()) return find_list_method(object.as<ListPointer>(), name);
  if (!object.is<LoopPointer>()) return Undefined{};
  const LoopPointer& loop = object.as<LoopPointer>();
  return name == "cycle" ? loop_cycle(loop) : loop_attribute(*loop, name);
}

}  // namespace

Value get_attribute(const Value& object, std::string_view name) {
  if (object.is_undefined()) fail_undefined(object, name);
  Value found = find_method(object, name);
  if (found.is_undefined()) found = find_entry(object, Value(Text(std::string(name))));
  return found.is_undefined() ? Value(Undefined{name}) : found;
}

Value get_item(Context& context, const Value& object, const Value& index) {
  const bool is_text = index.is_string();
  if (object.is_undefined()) fail_undefined(object, is_text ? index.text().bytes() : "an item");
  context.charge_items(index);
  if (index.is_integer() && (object.is_list() || object.is_string())) {
    return element_at(context, object, index.integer());
  }
  Value found = find_entry(object, index);
  if (found.is_undefined() && is_text) found = find_method(object, index.text().bytes());
  return found;
}

Value get_path(Context& context, Value object, const Value& path) {
  if (path.is_integer()) return get_item(context, object, path);
  std::string_view rest = require_text("an attribute's path", path).bytes();
  for (;;) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    std::int64_t index = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = parsed.ec == std::errc() && parsed.ptr == part.data() + part.size();
    object = get_item(context, object, is_index ? Value(index) : Value(Text(std::string(part))));
    if (dot == std::string_view::npos) return object;
    rest.remove_prefix(dot + 1);
  }
}

}  // namespace sift::jinja
