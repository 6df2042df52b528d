#pragma once

#include <string_view>

#include "sift/tokenizer/jinja/value.h"

namespace sift::jinja {

/// The value that a JSON text states, its strings marked as content. Throws invalid_argument,
/// naming `what`, when it is not JSON, has an object with the same key twice, nests too deeply, or
/// holds an integer beyond 64 bits.
Value value_from_json(std::string_view what, std::string_view json);

}  // namespace sift::jinja
