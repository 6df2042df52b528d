#include "sift/tokenizer/jinja/operators.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>
#include <cmath>

namespace sift::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**", "~"};

std::string_view symbol_of(BinaryOperator operation) {
  return kSymbols[static_cast<std::size_t>(operation)];
}

[[noreturn]] void fail_types(BinaryOperator operation, const Value& left, const Value& right) {
  const auto name = [](const Value& value) {
    const bool named = value.is_undefined() && !value.as<Undefined>().name.empty();
    return named ? fmt::format("'{}', which is undefined,", value.as<Undefined>().name)
                 : std::string(type_name(value));
  };
  fail(fmt::format("'{}' cannot join {} and {}", symbol_of(operation), name(left), name(right)));
}

std::int64_t checked(bool overflowed, std::int64_t result) {
  if (overflowed) fail("an integer is out of the range of 64 bits");
  return result;
}

void require_divisor(bool is_zero) {
  if (is_zero) fail("division by zero");
}

std::int64_t floor_divide(std::int64_t left, std::int64_t right) {
  require_divisor(right == 0);
  if (right == -1) {
    std::int64_t result = 0;
    const bool overflowed = __builtin_sub_overflow(std::int64_t{0}, left, &result);
    return checked(overflowed, result);
  }
  const std::int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

std::int64_t modulo(std::int64_t left, std::int64_t right) {
  require_divisor(right == 0);
  if (right == -1) return 0;
  const std::int64_t rest = left % right;
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

double modulo(double left, double right) {
  require_divisor(right == 0);
  const double rest = std::fmod(left, right);
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

/// `exponent` is not negative.
std::int64_t power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  bool overflowed = false;
  while (exponent > 0) {
    if (exponent & 1) overflowed |= __builtin_mul_overflow(result, base, &result);
    exponent >>= 1;
    if (exponent > 0) overflowed |= __builtin_mul_overflow(base, base, &base);
    if (overflowed) break;
  }
  return checked(overflowed, result);
}

Value integer_result(BinaryOperator operation, std::int64_t left, std::int64_t right) {
  std::int64_t result = 0;
  bool overflowed = false;
  switch (operation) {
    case BinaryOperator::add:
      overflowed = __builtin_add_overflow(left, right, &result);
      break;
    case BinaryOperator::subtract:
      overflowed = __builtin_sub_overflow(left, right, &result);
      break;
    case BinaryOperator::multiply:
      overflowed = __builtin_mul_overflow(left, right, &result);
      break;
    case BinaryOperator::floor_divide:
      return floor_divide(left, right);
    case BinaryOperator::modulo:
      return modulo(left, right);
    case BinaryOperator::power:
      if (right < 0) return std::pow(static_cast<double>(left), static_cast<double>(right));
      return power(left, right);
    default:
      require_divisor(right == 0);
      return static_cast<double>(left) / static_cast<double>(right);
  }
  return checked(overflowed, result);
}

Value real_result(BinaryOperator operation, double left, double right) {
  switch (operation) {
    case BinaryOperator::add:
      return left + right;
    case BinaryOperator::subtract:
      return left - right;
    case BinaryOperator::multiply:
      return left * right;
    case BinaryOperator::floor_divide:
      require_divisor(right == 0);
      return std::floor(left / right);
    case BinaryOperator::modulo:
      return modulo(left, right);
    case BinaryOperator::power:
      return std::pow(left, right);
    default:
      require_divisor(right == 0);
      return left / right;
  }
}

Value add_sequences(Context& context, const Value& left, const Value& right) {
  if (left.is_string() && right.is_string()) {
    Text text = left.text();
    text.append(right.text());
    return context.make_text(std::move(text));
  }
  const bool lists = left.is_list() && right.is_list();
  if (!lists || left.list().is_tuple != right.list().is_tuple) {
    fail_types(BinaryOperator::add, left, right);
  }
  std::vector<Value> items = left.list().items;
  items.insert(items.end(), right.list().items.begin(), right.list().items.end());
  return context.make_list(std::move(items), left.list().is_tuple);
}

Value repeat(Context& context, const Value& sequence, std::int64_t count) {
  const auto times = static_cast<std::size_t>(std::clamp<std::int64_t>(count, 0, 1 << 30));
  if (sequence.is_string()) {
    context.charge(times / 8 + times * sequence.text().size() / context.limits().bytes_per_step);
    Text text;
    for (std::size_t i = 0; i < times && sequence.text().size() > 0; ++i)
      text.append(sequence.text());
    return context.make_text(std::move(text));
  }
  context.charge(times * (1 + sequence.list().items.size()));
  std::vector<Value> items;
  for (std::size_t i = 0; i < times; ++i) {
    const auto& once = sequence.list().items;
    items.insert(items.end(), once.begin(), once.end());
  }
  return context.make_list(std::move(items), sequence.list().is_tuple);
}

bool is_sequence(const Value& value) { return value.is_string() || value.is_list(); }

/// A bound of a slice as Python clamps it: `low` and `high` are the ends of what it may be.
std::int64_t clamp_bound(const Value* bound, std::int64_t size, std::int64_t low, std::int64_t high,
                         std::int64_t fallback) {
  if (bound == nullptr || bound->is<None>()) return fallback;
  if (!bound->is_integer()) fail(fmt::format("a slice is bounded by {}", type_name(*bound)));
  const std::int64_t at = bound->integer();
  return std::clamp(at < 0 ? std::max(at, -size - 1) + size : at, low, high);
}

}  // namespace

std::size_t find_text(std::string_view text, std::string_view needle, std::size_t begin) {
  if (begin > text.size()) return std::string_view::npos;
  if (needle.empty()) return begin;
  const void* found =
      memmem(text.data() + begin, text.size() - begin, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

Value apply_unary(UnaryOperator operation, const Value& operand) {
  if (operation == UnaryOperator::negation) return !is_true(operand);
  if (!operand.is_number()) fail(fmt::format("{} has no sign", type_name(operand)));
  const bool minus = operation == UnaryOperator::minus;
  if (operand.is_integer())
    return integer_result(BinaryOperator::multiply, operand.integer(), minus ? -1 : 1);
  return minus ? -operand.number() : operand.number();
}

Value apply_binary(Context& context, BinaryOperator operation, const Value& left,
                   const Value& right) {
  if (left.is_integer() && right.is_integer()) {
    return integer_result(operation, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    return real_result(operation, left.number(), right.number());
  }
  if (operation == BinaryOperator::add) return add_sequences(context, left, right);
  if (operation == BinaryOperator::multiply && is_sequence(left) && right.is_integer()) {
    return repeat(context, left, right.integer());
  }
  if (operation == BinaryOperator::multiply && is_sequence(right) && left.is_integer()) {
    return repeat(context, right, left.integer());
  }
  fail_types(operation, left, right);
}

bool contains(Context& context, const Value& haystack, const Value& needle) {
  context.charge_items(haystack);
  if (haystack.is_undefined()) return false;
  if (haystack.is_dictionary()) return haystack.dictionary().find(needle) != nullptr;
  if (haystack.is_string()) {
    const std::string& inside = require_text("'in' with a string", needle).bytes();
    return find_text(haystack.text().bytes(), inside) != std::string_view::npos;
  }
  if (!haystack.is_list()) fail(fmt::format("nothing can be 'in' {}", type_name(haystack)));
  const auto& items = haystack.list().items;
  context.charge(items.size() * extent_of(needle).weight);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& item) { return are_equal(item, needle); });
}

bool holds(Context& context, Relation relation, const Value& left, const Value& right) {
  if (relation == Relation::in) return contains(context, right, left);
  if (relation == Relation::not_in) return !contains(context, right, left);
  context.charge(std::min(extent_of(left).weight, extent_of(right).weight));
  switch (relation) {
    case Relation::equal:
      return are_equal(left, right);
    case Relation::not_equal:
      return !are_equal(left, right);
    case Relation::less:
      return is_less(left, right);
    case Relation::less_equal:
      return is_less(left, right) || (are_equal(left, right) && !is_less(right, left));
    case Relation::greater:
      return is_less(right, left);
    default:
      return is_less(right, left) || (are_equal(left, right) && !is_less(left, right));
  }
}

Value slice(Context& context, const Value& sequence, const Value* begin, const Value* end,
            const Value* step_value) {
  if (!is_sequence(sequence)) fail(fmt::format("{} cannot be sliced", type_name(sequence)));
  const bool has_step = step_value != nullptr && !step_value->is<None>();
  const std::int64_t step = has_step ? require_integer("a slice's step", step_value, 1) : 1;
  if (step == 0) fail("a slice's step is zero");
  const std::string empty;
  const std::string& bytes = sequence.is_string() ? sequence.text().bytes() : empty;
  context.charge_items(sequence);
  const std::vector<ByteRange> characters = character_ranges(bytes);
  const auto size = static_cast<std::int64_t>(sequence.is_string() ? characters.size()
                                                                   : sequence.list().items.size());
  const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const std::int64_t from = clamp_bound(begin, size, low, high, step > 0 ? low : high);
  const std::int64_t to = clamp_bound(end, size, low, high, step > 0 ? high : low);
  Text text;
  std::vector<Value> items;
  for (std::int64_t i = from; step > 0 ? i < to : i > to;) {
    if (sequence.is_string()) {
      text.append(sequence.text(), characters[i].begin, characters[i].end - characters[i].begin);
    } else {
      items.push_back(sequence.list().items[i]);
    }
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  if (sequence.is_string()) return context.make_text(std::move(text));
  return context.make_list(std::move(items), sequence.list().is_tuple);
}

}  // namespace sift::jinja
