#pragma once

#include "sift/tokenizer/jinja/context.h"

namespace sift::jinja {

/// `object.name`: a method of the object's type, else its entry; undefined when there is neither.
/// Throws invalid_argument when `object` is undefined.
Value get_attribute(const Value& object, std::string_view name);

/// `object[index]`: its entry; undefined when there is none. Throws as get_attribute() does.
Value get_item(Context& context, const Value& object, const Value& index);

/// The entry at a path such as `function.name` or `0.role`, as filters' `attribute` names it.
Value get_path(Context& context, Value object, const Value& path);

/// The method of a string or dictionary, bound to its object; undefined when there is none.
Value find_string_method(const TextPointer& text, std::string_view name);
Value find_dictionary_method(const DictionaryPointer& dictionary, std::string_view name);
Value find_list_method(const ListPointer& list, std::string_view name);

}  // namespace sift::jinja
