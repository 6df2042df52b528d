#pragma once

#include "sift/tokenizer/jinja/ast.h"
#include "sift/tokenizer/jinja/context.h"

namespace sift::jinja {

// Python's operators. All throw invalid_argument for operands of the wrong type, and for results
// that 64-bit integers or the budget cannot hold.

Value apply_unary(UnaryOperator operation, const Value& operand);

/// Every binary operator but `and` and `or`, which do not always look at their right side.
Value apply_binary(Context& context, BinaryOperator operation, const Value& left,
                   const Value& right);

bool holds(Context& context, Relation relation, const Value& left, const Value& right);

/// `needle in haystack`.
bool contains(Context& context, const Value& haystack, const Value& needle);

/// `sequence[begin:end:step]`; null bounds are open.
Value slice(Context& context, const Value& sequence, const Value* begin, const Value* end,
            const Value* step);

/// Where `needle` occurs first in `text` from `begin` on, or npos; linear in the text.
std::size_t find_text(std::string_view text, std::string_view needle, std::size_t begin = 0);

}  // namespace sift::jinja
