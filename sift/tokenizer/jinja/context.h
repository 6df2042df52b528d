#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sift/tokenizer/jinja/value.h"

namespace sift::jinja {

/// What a rendering may use. Real templates need some thousands of steps; the limits stop a hostile
/// one within about a second and 200 MB.
struct Limits {
  std::size_t steps = 4'000'000;
  std::size_t bytes_per_step = 32;      ///< making a text of n bytes takes n / 32 steps
  std::size_t steps_per_character = 8;  ///< of a text that is taken apart into characters
  std::size_t output_bytes = std::size_t{4} << 20;
  int nesting = 400;  ///< of expressions, statements and macro calls under evaluation
};

/// Throws invalid_argument with `message`.
[[noreturn]] void fail(const std::string& message);

/// What lasts for one rendering: the budget, the clock, and the namespaces.
class Context {
 public:
  Context(Limits limits, std::int64_t now) : limits_(limits), now_(now) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Limits& limits() const { return limits_; }

  /// Seconds since 1970.
  std::int64_t now() const { return now_; }

  /// Counts steps. Throws invalid_argument beyond the limit.
  void charge(std::size_t steps);

  /// Counts what it costs to go through `value` and all that it holds: to print or compare it.
  void charge_deep(const Value& value) { charge(extent_of(value).weight); }

  /// Counts what it costs to go through the bytes of a string, or the items of a list or
  /// dictionary.
  void charge_items(const Value& value);

  /// As to_items(), charged.
  std::vector<Value> items(const Value& value);

  /// A string, charged by its size.
  Value make_text(Text text);

  /// A list or tuple, charged by its length.
  Value make_list(std::vector<Value> items, bool is_tuple = false);

  Namespace* make_namespace();

 private:
  Limits limits_;
  std::int64_t now_;
  std::size_t steps_ = 0;
  std::deque<Namespace> namespaces_;
};

/// Arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Arguments bound to parameters, in the order of `names`; null where none was given. Throws
/// invalid_argument for too many, unknown or doubled ones. `what` is for the message.
std::vector<const Value*> bind(std::string_view what, const Arguments& arguments,
                               std::initializer_list<std::string_view> names);

/// The text of a string argument. Throws invalid_argument for other values.
const Text& require_text(std::string_view what, const Value& value);

/// The value of an integer argument, or `fallback` when it is null.
std::int64_t require_integer(std::string_view what, const Value* value, std::int64_t fallback);

}  // namespace sift::jinja
