#pragma once

#include "sift/tokenizer/jinja/context.h"

namespace sift::jinja {

// What methods and filters of strings share. `context` is charged for what they make.

/// Without the characters of `set` (a string, or none: white space) at its ends.
Value strip_text(Context& context, const Text& text, Side side, const Value* set);

/// The parts between occurrences of `separator`, or, when it is null or none, between runs of white
/// space; at most `limit` cuts if that is not negative.
Value split_text(Context& context, const Text& text, const Value* separator, std::int64_t limit,
                 bool from_right);

/// With the first `limit` occurrences of `old`, or all if that is negative, replaced.
Value replace_text(Context& context, const Text& text, const Text& old, const Text& replacement,
                   std::int64_t limit);

/// The items' str(), with `separator` between.
Value join_texts(Context& context, const std::vector<Value>& items, const Text& separator);

}  // namespace sift::jinja
