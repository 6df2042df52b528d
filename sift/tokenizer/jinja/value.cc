#include "sift/tokenizer/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sift/tokenizer/jinja/context.h"
#include "sift/tokenizer/jinja/python_format.h"

namespace sift::jinja {
namespace {

/// Adds a part to the extent of what holds it.
void include(Extent& whole, const Value& part) {
  const Extent extent = extent_of(part);
  whole.depth = std::max(whole.depth, 1 + extent.depth);
  whole.weight += extent.weight;
  if (whole.depth > kMaxExtent.depth) {
    fail(fmt::format("lists and dictionaries nest more than {} deep", kMaxExtent.depth));
  }
  if (whole.weight > kMaxExtent.weight) {
    fail(fmt::format("a list or dictionary has more than {} parts", kMaxExtent.weight));
  }
}

/// One spelling for all equal keys: 1, 1.0 and True are the same key.
std::string key_form(const Value& key) {
  if (key.is_string()) return "s" + key.text().bytes();
  if (key.is_integer()) return fmt::format("n{}", key.integer());
  if (key.is<double>()) {
    const double number = key.number();
    const auto whole = static_cast<std::int64_t>(std::clamp(number, -9e15, 9e15));
    if (static_cast<double>(whole) == number) return fmt::format("n{}", whole);
    return "f" + to_python_repr(key).bytes();
  }
  if (key.is<None>()) return "none";
  fail(fmt::format("{} cannot be the key of a dictionary", type_name(key)));
}

bool lists_equal(const List& left, const List& right) {
  return left.is_tuple == right.is_tuple &&
         std::equal(left.items.begin(), left.items.end(), right.items.begin(), right.items.end(),
                    are_equal);
}

bool dictionaries_equal(const Dictionary& left, const Dictionary& right) {
  if (left.entries().size() != right.entries().size()) return false;
  return std::all_of(left.entries().begin(), left.entries().end(), [&](const auto& entry) {
    const Value* other = right.find(entry.first);
    return other != nullptr && are_equal(entry.second, *other);
  });
}

bool numbers_less(const Value& left, const Value& right) {
  if (left.is_integer() && right.is_integer()) return left.integer() < right.integer();
  return left.number() < right.number();
}

}  // namespace

void Dictionary::set(Value key, Value value) {
  include(extent_, key);
  include(extent_, value);
  const auto [found, is_new] = index_.try_emplace(key_form(key), entries_.size());
  if (is_new) {
    entries_.emplace_back(std::move(key), std::move(value));
  } else {
    entries_[found->second].second = std::move(value);
  }
}

const Value* Dictionary::find(const Value& key) const {
  const auto found = index_.find(key_form(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

Extent extent_of(const Value& value) {
  if (value.is_list()) return value.list().extent;
  if (value.is_dictionary()) return value.dictionary().extent();
  if (value.is_string()) return {0, 1 + value.text().size() / 64};
  return {};
}

std::string_view type_name(const Value& value) {
  static constexpr std::array<std::string_view, 11> kNames = {
      "an undefined value", "none",   "a truth value", "an integer",  "a float",
      "a string",           "a list", "a dictionary",  "a namespace", "the loop",
      "a function"};
  return kNames[value.storage().index()];
}

Value make_list(std::vector<Value> items, bool is_tuple) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) include(list->extent, item);
  list->items = std::move(items);
  list->is_tuple = is_tuple;
  return Value(ListPointer(std::move(list)));
}

Value make_dictionary(Dictionary dictionary) {
  return Value(DictionaryPointer(std::make_shared<const Dictionary>(std::move(dictionary))));
}

bool is_true(const Value& value) {
  if (value.is_undefined() || value.is<None>()) return false;
  if (value.is<bool>()) return value.as<bool>();
  if (value.is_number()) return value.number() != 0;
  if (value.is_string()) return value.text().size() != 0;
  if (value.is_list()) return !value.list().items.empty();
  if (value.is_dictionary()) return !value.dictionary().entries().empty();
  return true;
}

bool are_equal(const Value& left, const Value& right) {
  if (left.is_integer() && right.is_integer()) return left.integer() == right.integer();
  if (left.is_number() && right.is_number()) return left.number() == right.number();
  if (left.storage().index() != right.storage().index()) return false;
  if (left.is_string()) return left.text().bytes() == right.text().bytes();
  if (left.is_list()) return lists_equal(left.list(), right.list());
  if (left.is_dictionary()) return dictionaries_equal(left.dictionary(), right.dictionary());
  if (left.is<Namespace*>()) return left.as<Namespace*>() == right.as<Namespace*>();
  if (left.is<LoopPointer>()) return left.as<LoopPointer>() == right.as<LoopPointer>();
  if (left.is<CallablePointer>()) return left.as<CallablePointer>() == right.as<CallablePointer>();
  return true;  // both undefined, or both none
}

bool is_less(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) return numbers_less(left, right);
  if (left.is_string() && right.is_string()) return left.text().bytes() < right.text().bytes();
  if (left.is_list() && right.is_list()) {
    return std::lexicographical_compare(left.list().items.begin(), left.list().items.end(),
                                        right.list().items.begin(), right.list().items.end(),
                                        is_less);
  }
  fail(fmt::format("{} and {} have no order", type_name(left), type_name(right)));
}

std::vector<Value> to_items(const Value& value) {
  if (value.is_list()) return value.list().items;
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (value.is_dictionary()) {
    for (const auto& [key, unused] : value.dictionary().entries()) items.push_back(key);
  } else if (value.is_string()) {
    for (const ByteRange& range : character_ranges(value.text().bytes())) {
      items.emplace_back(value.text().slice(range.begin, range.end - range.begin));
    }
  } else {
    fail(fmt::format("{} cannot be iterated over", type_name(value)));
  }
  return items;
}

}  // namespace sift::jinja
