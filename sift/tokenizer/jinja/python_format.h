#pragma once

#include <optional>
#include <string>

#include "sift/tokenizer/jinja/value.h"

namespace sift::jinja {

/// Python's str(). Throws invalid_argument for namespaces, loops and functions, whose form in
/// Python is an address.
Text to_python_string(const Value& value);

/// Python's repr(); throws as to_python_string() does.
Text to_python_repr(const Value& value);

/// Python's repr() of a float: the shortest digits that read back as the same number.
std::string format_float(double number);

/// Options of Python's json.dumps().
struct JsonOptions {
  std::optional<std::string> indent;  ///< of one level; none: everything on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};

/// Python's json.dumps(). Throws invalid_argument for values that JSON cannot hold.
Text to_json(const Value& value, const JsonOptions& options);

}  // namespace sift::jinja
