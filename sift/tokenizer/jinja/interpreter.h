#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sift/tokenizer/jinja/ast.h"
#include "sift/tokenizer/jinja/context.h"

namespace sift::jinja {

using Variables = std::vector<std::pair<std::string, Value>>;

/// Runs `program` with `variables` and the functions of globals.h. Throws invalid_argument, naming
/// the template's line, when the template raises an error, does what the language does not allow,
/// or exceeds the limits of `context`.
Text run(const Program& program, Context& context, const Variables& variables);

}  // namespace sift::jinja
