#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "sift/tokenizer/jinja/text.h"

namespace sift::jinja {

class Context;
class Value;
struct Arguments;

/// What a missing name or attribute gives; `name` is for messages and lives as long as the
/// template.
struct Undefined {
  std::string_view name;
};
struct None {};

/// How large a value is when everything in it is counted wherever it occurs: what it costs to print
/// or compare it. One list can occur in another many times over.
struct Extent {
  int depth = 0;           ///< of nested lists and dictionaries
  std::size_t weight = 1;  ///< elements, keys, values and blocks of 64 bytes of strings
};

/// A list or tuple. Lists, tuples and dictionaries never change once made.
struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  Extent extent{1, 1};
};

/// A dictionary in order of insertion.
class Dictionary {
 public:
  /// Sets `key`, replacing an earlier value. Throws invalid_argument unless `key` is a string, a
  /// number or none, or when this grows too large.
  void set(Value key, Value value);
  const Value* find(const Value& key) const;
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  const Extent& extent() const { return extent_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, std::size_t> index_;  ///< by the key's Python form
  Extent extent_{1, 1};
};

/// The one thing that a template can change: `namespace(…)`. Owned by the rendering.
struct Namespace {
  std::unordered_map<std::string, Value> attributes;
};

/// The state of a `for` loop, behind the name `loop`.
struct Loop {
  std::shared_ptr<const List> items;
  std::size_t index = 0;  ///< of the current item, from 0
};

/// A macro, a method with its object, or a function.
struct Callable {
  std::string name;
  std::function<Value(Context&, const Arguments&)> function;
};

using ListPointer = std::shared_ptr<const List>;
using DictionaryPointer = std::shared_ptr<const Dictionary>;
using LoopPointer = std::shared_ptr<Loop>;
using CallablePointer = std::shared_ptr<const Callable>;

/// A value of the template language, with Python's meaning. Cheap to copy.
class Value {
 public:
  using Storage =
      std::variant<Undefined, None, bool, std::int64_t, double, TextPointer, ListPointer,
                   DictionaryPointer, Namespace*, LoopPointer, CallablePointer>;

  Value() = default;
  Value(Undefined value) : storage_(value) {}
  Value(None value) : storage_(value) {}
  // A pointer must not turn into a truth value.
  template <std::same_as<bool> T>
  Value(T value) : storage_(value) {}
  Value(std::int64_t value) : storage_(value) {}
  Value(double value) : storage_(value) {}
  Value(Text text) : storage_(std::make_shared<const Text>(std::move(text))) {}
  Value(TextPointer text) : storage_(std::move(text)) {}
  Value(ListPointer list) : storage_(std::move(list)) {}
  Value(DictionaryPointer dictionary) : storage_(std::move(dictionary)) {}
  Value(Namespace* space) : storage_(space) {}
  Value(LoopPointer loop) : storage_(std::move(loop)) {}
  Value(CallablePointer callable) : storage_(std::move(callable)) {}

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(storage_);
  }
  template <typename T>
  const T& as() const {
    return std::get<T>(storage_);
  }
  bool is_undefined() const { return is<Undefined>(); }
  bool is_string() const { return is<TextPointer>(); }
  bool is_list() const { return is<ListPointer>(); }
  bool is_dictionary() const { return is<DictionaryPointer>(); }
  bool is_integer() const { return is<std::int64_t>() || is<bool>(); }
  bool is_number() const { return is_integer() || is<double>(); }

  // REQUIRES: the value is of the kind.
  const Text& text() const { return *as<TextPointer>(); }
  const List& list() const { return *as<ListPointer>(); }
  const Dictionary& dictionary() const { return *as<DictionaryPointer>(); }
  std::int64_t integer() const { return is<bool>() ? as<bool>() : as<std::int64_t>(); }
  double number() const { return is<double>() ? as<double>() : static_cast<double>(integer()); }

  const Storage& storage() const { return storage_; }

 private:
  Storage storage_;
};

/// The largest extent of a value; it bounds every recursion over one.
inline constexpr Extent kMaxExtent{64, 4'000'000};

Extent extent_of(const Value& value);

/// The Python name of the value's type, for messages.
std::string_view type_name(const Value& value);

/// A list or tuple of `items`. Throws invalid_argument when it would be too large.
Value make_list(std::vector<Value> items, bool is_tuple = false);

Value make_dictionary(Dictionary dictionary);

bool is_true(const Value& value);

/// Python's ==.
bool are_equal(const Value& left, const Value& right);

/// Python's <. Throws invalid_argument for values without an order.
bool is_less(const Value& left, const Value& right);

/// The items of anything that can be iterated over: characters, elements, keys. Throws
/// invalid_argument otherwise.
std::vector<Value> to_items(const Value& value);

}  // namespace sift::jinja
