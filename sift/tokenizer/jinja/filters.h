#pragma once

#include "sift/tokenizer/jinja/context.h"

namespace sift::jinja {

/// `input | name(arguments)` as Jinja defines the filter. Throws invalid_argument when the filter
/// is unknown or does not take such values.
Value apply_filter(Context& context, std::string_view name, const Value& input,
                   const Arguments& arguments);

/// `input is name(arguments)`, likewise.
bool apply_test(Context& context, std::string_view name, const Value& input,
                const Arguments& arguments);

using Filter = Value (*)(Context&, const Value& input, const Arguments&);

/// A filter of strings, or of lists and other values; null when there is none of that name.
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);

}  // namespace sift::jinja
