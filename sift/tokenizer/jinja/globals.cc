#include "sift/tokenizer/jinja/globals.h"

#include <fmt/format.h>

#include <array>
#include <ctime>

#include "sift/tokenizer/jinja/python_format.h"

namespace sift::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100'000;  // as in Jinja's sandbox

Value range(Context& context, const Arguments& arguments) {
  auto bound = bind("range()", arguments, {"start", "stop", "step"});
  if (bound[0] == nullptr) fail("range() needs a number");
  if (bound[1] == nullptr) std::swap(bound[0], bound[1]);
  const std::int64_t start = require_integer("range()", bound[0], 0);
  const std::int64_t stop = require_integer("range()", bound[1], 0);
  const std::int64_t step = require_integer("range()", bound[2], 1);
  if (step == 0) fail("range() has the step 0");
  std::vector<Value> numbers;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<std::int64_t>(numbers.size()) == kMaxRange) {
      fail(fmt::format("range() has more than {} numbers", kMaxRange));
    }
    numbers.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return context.make_list(std::move(numbers));
}

/// The entries that dict() and namespace() start from.
Dictionary gather(std::string_view what, const Arguments& arguments) {
  if (arguments.positional.size() > 1) fail(fmt::format("{} takes one dictionary", what));
  Dictionary dictionary;
  if (!arguments.positional.empty()) {
    const Value& first = arguments.positional[0];
    if (!first.is_dictionary())
      fail(fmt::format("{} needs a dictionary, found {}", what, type_name(first)));
    dictionary = first.dictionary();
  }
  for (const auto& [name, value] : arguments.named) dictionary.set(Value(Text(name)), value);
  return dictionary;
}

Value make_dict(Context& context, const Arguments& arguments) {
  Value made = make_dictionary(gather("dict()", arguments));
  context.charge_items(made);
  return made;
}

Value make_space(Context& context, const Arguments& arguments) {
  Namespace* space = context.make_namespace();
  const Dictionary initial = gather("namespace()", arguments);
  context.charge(initial.entries().size());
  for (const auto& [key, value] : initial.entries()) {
    space->attributes[require_text("namespace()", key).bytes()] = value;
  }
  return space;
}

Value raise(Context&, const Arguments& arguments) {
  const auto bound = bind("raise_exception()", arguments, {"message"});
  if (bound[0] == nullptr) fail("raise_exception() needs a message");
  fail(to_python_string(*bound[0]).bytes());
}

/// The time in UTC, so that a prompt does not depend on where it is made.
Value format_now(Context& context, const Arguments& arguments) {
  const auto bound = bind("strftime_now()", arguments, {"format"});
  if (bound[0] == nullptr) fail("strftime_now() needs a format");
  const std::string& format = require_text("strftime_now()", *bound[0]).bytes();
  if (format.empty()) return context.make_text(Text());
  const auto seconds = static_cast<std::time_t>(context.now());
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 1024> buffer{};
  const std::size_t length = std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts);
  if (length == 0) fail("strftime_now() has a format that gives nothing, or too much");
  return context.make_text(
      Text(std::string(buffer.data(), length), bound[0]->text().has_content()));
}

}  // namespace

Variables global_functions() {
  const auto function = [](const char* name, Value (*call)(Context&, const Arguments&)) {
    return std::pair<std::string, Value>(name,
                                         std::make_shared<const Callable>(Callable{name, call}));
  };
  return {function("range", range), function("dict", make_dict), function("namespace", make_space),
          function("raise_exception", raise), function("strftime_now", format_now)};
}

}  // namespace sift::jinja
