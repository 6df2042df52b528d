#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sift::jinja {

/// The string that the inside of a quoted literal means, with Python's escapes; nothing when an
/// escape is cut short or names no character. Unknown escapes stay as they are.
std::optional<std::string> resolve_escapes(std::string_view inside);

}  // namespace sift::jinja
