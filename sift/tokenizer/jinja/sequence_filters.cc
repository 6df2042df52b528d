// The filters of lists, dictionaries and other collections.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sift/tokenizer/jinja/attributes.h"
#include "sift/tokenizer/jinja/filters.h"
#include "sift/tokenizer/jinja/operators.h"
#include "sift/tokenizer/jinja/python_format.h"
#include "sift/tokenizer/jinja/text_functions.h"

namespace sift::jinja {
namespace {

bool is_given(const Value* argument) { return argument != nullptr && !argument->is<None>(); }
bool is_set(const Value* argument) { return argument != nullptr && is_true(*argument); }

Value default_to(Context&, const Value& input, const Arguments& arguments) {
  const auto bound = bind("default", arguments, {"default_value", "boolean"});
  const bool missing = input.is_undefined() || (is_set(bound[1]) && !is_true(input));
  if (!missing) return input;
  return bound[0] != nullptr ? *bound[0] : Value(Text());
}

Value length(Context&, const Value& input, const Arguments& arguments) {
  bind("length", arguments, {});
  std::size_t count = 0;
  if (input.is_string()) {
    count = count_characters(input.text().bytes());
  } else if (input.is_list()) {
    count = input.list().items.size();
  } else if (input.is_dictionary()) {
    count = input.dictionary().entries().size();
  } else if (!input.is_undefined()) {
    fail(fmt::format("{} has no length", type_name(input)));
  }
  return static_cast<std::int64_t>(count);
}

Value first(Context& context, const Value& input, const Arguments& arguments) {
  bind("first", arguments, {});
  const std::vector<Value> items = context.items(input);
  return items.empty() ? Value(Undefined{"the first item of nothing"}) : items.front();
}

Value last(Context& context, const Value& input, const Arguments& arguments) {
  bind("last", arguments, {});
  const std::vector<Value> items = context.items(input);
  return items.empty() ? Value(Undefined{"the last item of nothing"}) : items.back();
}

Value list(Context& context, const Value& input, const Arguments& arguments) {
  bind("list", arguments, {});
  return context.make_list(context.items(input));
}

Value items_of(Context& context, const Value& input, const Arguments& arguments) {
  bind("items", arguments, {});
  if (input.is_undefined()) return context.make_list({});
  if (!input.is_dictionary())
    fail(fmt::format("items needs a dictionary, found {}", type_name(input)));
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dictionary().entries()) {
    pairs.push_back(context.make_list({key, value}, true));
  }
  return context.make_list(std::move(pairs));
}

Value join(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("join", arguments, {"d", "attribute"});
  std::vector<Value> items = context.items(input);
  if (is_given(bound[1])) {
    for (Value& item : items) item = get_path(context, item, *bound[1]);
  }
  return join_texts(context, items, bound[0] != nullptr ? to_python_string(*bound[0]) : Text());
}

Value reverse(Context& context, const Value& input, const Arguments& arguments) {
  bind("reverse", arguments, {});
  std::vector<Value> items = context.items(input);
  std::reverse(items.begin(), items.end());
  if (input.is_string()) return join_texts(context, items, Text());
  return context.make_list(std::move(items));
}

/// What sorting and comparing look at: the item or something in it, without regard to case.
class KeyOf {
 public:
  KeyOf(Context& context, const Value* attribute, bool case_sensitive)
      : context_(context), attribute_(attribute), case_sensitive_(case_sensitive) {}

  Value operator()(const Value& item) const {
    Value key = is_given(attribute_) ? get_path(context_, item, *attribute_) : item;
    if (case_sensitive_ || !key.is_string()) return key;
    return context_.make_text(Text(change_case(key.text().bytes(), Case::lower)));
  }

 private:
  Context& context_;
  const Value* attribute_;
  bool case_sensitive_;
};

Value sort_by(Context& context, std::vector<Value> items, const KeyOf& key_of, bool descending) {
  std::vector<std::pair<Value, Value>> keyed;
  keyed.reserve(items.size());
  for (Value& item : items) keyed.emplace_back(key_of(item), std::move(item));
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& left, const auto& right) {
    context.charge_deep(left.first);
    return descending ? is_less(right.first, left.first) : is_less(left.first, right.first);
  });
  std::vector<Value> sorted;
  sorted.reserve(keyed.size());
  for (auto& [key, item] : keyed) sorted.push_back(std::move(item));
  return context.make_list(std::move(sorted));
}

Value sort(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  return sort_by(context, context.items(input), KeyOf(context, bound[2], is_set(bound[1])),
                 is_set(bound[0]));
}

Value sort_dictionary(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = bound[1] != nullptr ? require_text("dictsort", *bound[1]).bytes() : "key";
  if (by != "key" && by != "value") fail("dictsort sorts by key or by value");
  const Value pairs = items_of(context, input, {});
  const Value part(std::int64_t{by == "value"});
  return sort_by(context, pairs.list().items, KeyOf(context, &part, is_set(bound[0])),
                 is_set(bound[2]));
}

Value unique(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("unique", arguments, {"case_sensitive", "attribute"});
  const KeyOf key_of(context, bound[1], is_set(bound[0]));
  Dictionary seen;
  std::vector<Value> kept;
  for (const Value& item : context.items(input)) {
    const Value key = key_of(item);
    if (seen.find(key) != nullptr) continue;
    seen.set(key, Value(None{}));
    kept.push_back(item);
  }
  return context.make_list(std::move(kept));
}

template <bool largest>
Value extreme(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("min or max", arguments, {"case_sensitive", "attribute"});
  const KeyOf key_of(context, bound[1], is_set(bound[0]));
  const Value* best = nullptr;
  const std::vector<Value> items = context.items(input);
  for (const Value& item : items) {
    const bool better = best == nullptr || (largest ? is_less(key_of(*best), key_of(item))
                                                    : is_less(key_of(item), key_of(*best)));
    if (better) best = &item;
  }
  return best == nullptr ? Value(Undefined{"the extreme of nothing"}) : *best;
}

Value sum(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("sum", arguments, {"attribute", "start"});
  Value total = bound[1] != nullptr ? *bound[1] : Value(std::int64_t{0});
  for (const Value& item : context.items(input)) {
    const Value part = is_given(bound[0]) ? get_path(context, item, *bound[0]) : item;
    total = apply_binary(context, BinaryOperator::add, total, part);
  }
  return total;
}

/// The arguments without the first `count`.
Arguments without_first(const Arguments& arguments, std::size_t count) {
  const auto& all = arguments.positional;
  const std::size_t skipped = std::min(count, all.size());
  return {{all.begin() + static_cast<std::ptrdiff_t>(skipped), all.end()}, arguments.named};
}

Value map_attribute(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("map", arguments, {"attribute", "default"});
  std::vector<Value> mapped;
  for (const Value& item : context.items(input)) {
    Value found = get_path(context, item, *bound[0]);
    mapped.push_back(found.is_undefined() && bound[1] != nullptr ? *bound[1] : found);
  }
  return context.make_list(std::move(mapped));
}

Value map(Context& context, const Value& input, const Arguments& arguments) {
  if (arguments.positional.empty()) {
    const bool has_attribute =
        std::any_of(arguments.named.begin(), arguments.named.end(),
                    [](const auto& each) { return each.first == "attribute"; });
    if (!has_attribute) fail("map needs a filter or an attribute");
    return map_attribute(context, input, arguments);
  }
  const Arguments rest = without_first(arguments, 1);
  const std::string& name = require_text("map", arguments.positional[0]).bytes();
  std::vector<Value> mapped;
  for (const Value& item : context.items(input)) {
    mapped.push_back(apply_filter(context, name, item, rest));
  }
  return context.make_list(std::move(mapped));
}

/// select, reject, selectattr, rejectattr: the items for which a test holds, or does not.
template <bool keeps, bool by_attribute>
Value select(Context& context, const Value& input, const Arguments& arguments) {
  const auto& given = arguments.positional;
  const std::size_t test_at = by_attribute ? 1 : 0;
  if (given.size() < test_at) fail("selectattr and rejectattr need an attribute");
  const bool tests = given.size() > test_at;
  const std::string test = tests ? require_text("a selection", given[test_at]).bytes() : "";
  const Arguments rest = without_first(arguments, test_at + 1);
  std::vector<Value> kept;
  for (const Value& item : context.items(input)) {
    const Value looked_at = by_attribute ? get_path(context, item, given[0]) : item;
    const bool held = tests ? apply_test(context, test, looked_at, rest) : is_true(looked_at);
    if (held == keeps) kept.push_back(item);
  }
  return context.make_list(std::move(kept));
}

Value batch(Context& context, const Value& input, const Arguments& arguments) {
  const auto bound = bind("batch", arguments, {"linecount", "fill_with"});
  const std::int64_t count = require_integer("batch", bound[0], 0);
  if (count < 1 || count > 1'000'000) fail("batch needs a size of 1 to 1000000");
  std::vector<Value> batches, current;
  for (const Value& item : context.items(input)) {
    current.push_back(item);
    if (static_cast<std::int64_t>(current.size()) < count) continue;
    batches.push_back(context.make_list(std::exchange(current, {})));
  }
  if (!current.empty()) {
    if (is_given(bound[1])) {
      context.charge(static_cast<std::size_t>(count));
      current.resize(static_cast<std::size_t>(count), *bound[1]);
    }
    batches.push_back(context.make_list(std::move(current)));
  }
  return context.make_list(std::move(batches));
}

constexpr std::array<std::pair<std::string_view, Filter>, 22> kFilters = {{
    {"default", default_to},
    {"d", default_to},
    {"length", length},
    {"count", length},
    {"first", first},
    {"last", last},
    {"list", list},
    {"items", items_of},
    {"join", join},
    {"reverse", reverse},
    {"sort", sort},
    {"dictsort", sort_dictionary},
    {"unique", unique},
    {"min", extreme<false>},
    {"max", extreme<true>},
    {"sum", sum},
    {"map", map},
    {"select", select<true, false>},
    {"reject", select<false, false>},
    {"selectattr", select<true, true>},
    {"rejectattr", select<false, true>},
    {"batch", batch},
}};

}  // namespace

Filter find_sequence_filter(std::string_view name) {
  const auto found = std::find_if(kFilters.begin(), kFilters.end(),
                                  [&](const auto& each) { return each.first == name; });
  return found == kFilters.end() ? nullptr : found->second;
}

}  // namespace sift::jinja
