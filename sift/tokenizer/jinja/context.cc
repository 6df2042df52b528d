#include "sift/tokenizer/jinja/context.h"

#include <fmt/format.h>

#include <algorithm>

#include "sift/core/error.h"

namespace sift::jinja {

void fail(const std::string& message) { throw Error(ErrorKind::invalid_argument, message); }

void Context::charge(std::size_t steps) {
  steps_ += std::min(steps, limits_.steps + 1);
  if (steps_ > limits_.steps) fail(fmt::format("it takes more than {} steps", limits_.steps));
}

void Context::charge_items(const Value& value) {
  if (value.is_list()) return charge(1 + value.list().items.size());
  if (value.is_dictionary()) return charge(1 + value.dictionary().entries().size());
  charge_deep(value);
}

std::vector<Value> Context::items(const Value& value) {
  charge_items(value);
  if (value.is_string()) charge(value.text().size() * limits_.steps_per_character);
  return to_items(value);
}

Value Context::make_text(Text text) {
  charge(1 + text.size() / limits_.bytes_per_step);
  return Value(std::move(text));
}

Value Context::make_list(std::vector<Value> items, bool is_tuple) {
  charge(1 + items.size());
  return jinja::make_list(std::move(items), is_tuple);
}

Namespace* Context::make_namespace() {
  charge(1);
  return &namespaces_.emplace_back();
}

std::vector<const Value*> bind(std::string_view what, const Arguments& arguments,
                               std::initializer_list<std::string_view> names) {
  std::vector<const Value*> bound(names.size(), nullptr);
  if (arguments.positional.size() > names.size()) {
    fail(fmt::format("{} takes at most {} arguments, {} given", what, names.size(),
                     arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) fail(fmt::format("{} has no argument '{}'", what, name));
    const Value*& slot = bound[static_cast<std::size_t>(found - names.begin())];
    if (slot != nullptr) fail(fmt::format("{} got its argument '{}' twice", what, name));
    slot = &value;
  }
  return bound;
}

const Text& require_text(std::string_view what, const Value& value) {
  if (!value.is_string()) {
    fail(fmt::format("{} needs a string, found {}", what, type_name(value)));
  }
  return value.text();
}

std::int64_t require_integer(std::string_view what, const Value* value, std::int64_t fallback) {
  if (value == nullptr) return fallback;
  if (!value->is_integer()) {
    fail(fmt::format("{} needs an integer, found {}", what, type_name(*value)));
  }
  return value->integer();
}

}  // namespace sift::jinja
