// The tests behind `is`.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "sift/tokenizer/jinja/filters.h"
#include "sift/tokenizer/jinja/operators.h"

namespace sift::jinja {
namespace {

using Predicate = bool (*)(const Value&);

/// Whether a letter is there and all letters are of that case, as str.isupper() and islower().
template <char32_t (*same)(char32_t), char32_t (*other)(char32_t)>
bool all_letters(const Value& value) {
  if (!value.is_string()) return false;
  const std::string& bytes = value.text().bytes();
  const Case to = same == to_upper ? Case::upper : Case::lower;
  const Case away = same == to_upper ? Case::lower : Case::upper;
  return change_case(bytes, to) == bytes && change_case(bytes, away) != bytes;
}

bool is_odd(const Value& value) {
  const std::int64_t number = require_integer("odd or even", &value, 0);
  return number % 2 != 0;
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_list() || value.is_dictionary();
}

const std::unordered_map<std::string_view, Predicate>& predicates() {
  static const std::unordered_map<std::string_view, Predicate> kPredicates = {
      {"defined", [](const Value& v) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v) { return v.is_undefined(); }},
      {"none", [](const Value& v) { return v.is<None>(); }},
      {"boolean", [](const Value& v) { return v.is<bool>(); }},
      {"true", [](const Value& v) { return v.is<bool>() && v.as<bool>(); }},
      {"false", [](const Value& v) { return v.is<bool>() && !v.as<bool>(); }},
      {"integer", [](const Value& v) { return v.is<std::int64_t>(); }},
      {"float", [](const Value& v) { return v.is<double>(); }},
      {"number", [](const Value& v) { return v.is_number(); }},
      {"string", [](const Value& v) { return v.is_string(); }},
      {"mapping", [](const Value& v) { return v.is_dictionary(); }},
      {"iterable", is_iterable},
      {"sequence", is_iterable},
      {"callable", [](const Value& v) { return v.is<CallablePointer>(); }},
      {"odd", is_odd},
      {"even", [](const Value& v) { return !is_odd(v); }},
      {"upper", all_letters<to_upper, to_lower>},
      {"lower", all_letters<to_lower, to_upper>},
  };
  return kPredicates;
}

constexpr std::array<std::pair<std::string_view, Relation>, 16> kRelations = {{
    {"eq", Relation::equal},
    {"equalto", Relation::equal},
    {"==", Relation::equal},
    {"ne", Relation::not_equal},
    {"!=", Relation::not_equal},
    {"lt", Relation::less},
    {"lessthan", Relation::less},
    {"<", Relation::less},
    {"le", Relation::less_equal},
    {"<=", Relation::less_equal},
    {"gt", Relation::greater},
    {"greaterthan", Relation::greater},
    {">", Relation::greater},
    {"ge", Relation::greater_equal},
    {">=", Relation::greater_equal},
    {"in", Relation::in},
}};

bool is_same(const Value& left, const Value& right) {
  return left.storage().index() == right.storage().index() && are_equal(left, right);
}

}  // namespace

bool apply_test(Context& context, std::string_view name, const Value& input,
                const Arguments& arguments) {
  context.charge_items(input);
  const auto simple = predicates().find(name);
  if (simple != predicates().end()) {
    bind(fmt::format("the test '{}'", name), arguments, {});
    return simple->second(input);
  }
  const auto relation = std::find_if(kRelations.begin(), kRelations.end(),
                                     [&](const auto& each) { return each.first == name; });
  const bool known = relation != kRelations.end() || name == "sameas" || name == "divisibleby";
  if (!known) fail(fmt::format("the test '{}' is unknown", name));
  const auto bound = bind(fmt::format("the test '{}'", name), arguments, {"other"});
  if (bound[0] == nullptr) fail(fmt::format("the test '{}' needs a value", name));
  if (relation != kRelations.end()) return holds(context, relation->second, input, *bound[0]);
  if (name == "sameas") return is_same(input, *bound[0]);
  const Value rest = apply_binary(context, BinaryOperator::modulo, input, *bound[0]);
  return !is_true(rest);
}

}  // namespace sift::jinja
