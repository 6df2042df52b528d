#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "sift/tokenizer/jinja/parser.h"

namespace sift::jinja {
namespace {

constexpr int kMaxDepth = 100;

struct BinarySymbol {
  std::string_view symbol;
  BinaryOperator operation;
  int level;
};
constexpr int kHighestLevel = 3;
constexpr std::array<BinarySymbol, 8> kBinarySymbols = {{
    {"+", BinaryOperator::add, 0},
    {"-", BinaryOperator::subtract, 0},
    {"~", BinaryOperator::join, 1},
    {"*", BinaryOperator::multiply, 2},
    {"/", BinaryOperator::divide, 2},
    {"//", BinaryOperator::floor_divide, 2},
    {"%", BinaryOperator::modulo, 2},
    {"**", BinaryOperator::power, 3},
}};

constexpr std::array<std::pair<std::string_view, Relation>, 6> kRelations = {{
    {"==", Relation::equal},
    {"!=", Relation::not_equal},
    {"<=", Relation::less_equal},
    {"<", Relation::less},
    {">=", Relation::greater_equal},
    {">", Relation::greater},
}};

}  // namespace

/// Counts how deep the parser is in itself.
class ExpressionParser::Nesting {
 public:
  explicit Nesting(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.depth_ > kMaxDepth) {
      fail_at(parser_.tokens_.line(),
              fmt::format("an expression nests more than {} deep", kMaxDepth));
    }
  }
  ~Nesting() { --parser_.depth_; }

 private:
  ExpressionParser& parser_;
};

bool ExpressionParser::ends_tuple(bool conditional) const {
  if (tokens_.at(TokenKind::tag_end) || tokens_.at(TokenKind::print_end)) return true;
  if (!conditional && (tokens_.at_name("if") || tokens_.at_name("recursive"))) return true;
  return tokens_.at_symbol(")") || tokens_.at_symbol("=");
}

const Expression* ExpressionParser::parse_tuple(bool conditional) {
  const auto parse_item = [&] { return conditional ? parse_expression() : parse_or(); };
  std::vector<const Expression*> items = {parse_item()};
  bool is_tuple = false;
  while (tokens_.skip_symbol(",")) {
    is_tuple = true;
    if (ends_tuple(conditional)) break;
    items.push_back(parse_item());
  }
  return is_tuple ? make(ListLiteral{std::move(items), true}) : items.front();
}

const Expression* ExpressionParser::parse_expression() {
  const Nesting nesting(*this);
  return parse_conditional();
}

const Expression* ExpressionParser::parse_conditional() {
  const Expression* value = parse_or();
  while (tokens_.skip_name("if")) {
    const Expression* condition = parse_or();
    const Expression* otherwise = tokens_.skip_name("else") ? parse_expression() : nullptr;
    value = make(Conditional{condition, value, otherwise});
  }
  return value;
}

const Expression* ExpressionParser::parse_or() {
  const Expression* left = parse_and();
  while (tokens_.skip_name("or"))
    left = make(Binary{BinaryOperator::logical_or, left, parse_and()});
  return left;
}

const Expression* ExpressionParser::parse_and() {
  const Expression* left = parse_not();
  while (tokens_.skip_name("and"))
    left = make(Binary{BinaryOperator::logical_and, left, parse_not()});
  return left;
}

const Expression* ExpressionParser::parse_not() {
  const Nesting nesting(*this);
  if (tokens_.skip_name("not")) return make(Unary{UnaryOperator::negation, parse_not()});
  return parse_comparison();
}

bool ExpressionParser::take_relation(Relation& relation) {
  for (const auto& [symbol, meaning] : kRelations) {
    if (tokens_.skip_symbol(symbol)) {
      relation = meaning;
      return true;
    }
  }
  const bool negated = tokens_.at_name("not") && tokens_.peek(1).kind == TokenKind::name &&
                       tokens_.peek(1).text == "in";
  if (negated) tokens_.take();
  relation = negated ? Relation::not_in : Relation::in;
  return tokens_.skip_name("in");
}

const Expression* ExpressionParser::parse_comparison() {
  const Expression* first = parse_binary(0);
  std::vector<std::pair<Relation, const Expression*>> rest;
  for (Relation relation; take_relation(relation);) rest.emplace_back(relation, parse_binary(0));
  return rest.empty() ? first : make(Comparison{first, std::move(rest)});
}

const Expression* ExpressionParser::parse_binary(int level) {
  if (level > kHighestLevel) return parse_unary(true);
  const Expression* left = parse_binary(level + 1);
  const auto matches = [&](const BinarySymbol& each) {
    return each.level == level && tokens_.at_symbol(each.symbol);
  };
  for (;;) {
    const auto found = std::find_if(kBinarySymbols.begin(), kBinarySymbols.end(), matches);
    if (found == kBinarySymbols.end()) return left;
    tokens_.take();
    left = make(Binary{found->operation, left, parse_binary(level + 1)});
  }
}

const Expression* ExpressionParser::parse_unary(bool with_filters) {
  const Nesting nesting(*this);
  const Expression* value = nullptr;
  if (tokens_.skip_symbol("-")) {
    value = make(Unary{UnaryOperator::minus, parse_unary(false)});
  } else if (tokens_.skip_symbol("+")) {
    value = make(Unary{UnaryOperator::plus, parse_unary(false)});
  } else {
    value = parse_primary();
  }
  value = parse_postfix(value);
  return with_filters ? parse_filters_and_tests(value) : value;
}

const Expression* ExpressionParser::parse_primary() {
  switch (tokens_.peek().kind) {
    case TokenKind::integer:
    case TokenKind::real:
      return parse_number();
    case TokenKind::string:
      return parse_string();
    case TokenKind::name:
      return parse_name();
    default:
      break;
  }
  if (tokens_.at_symbol("(")) return parse_parentheses();
  if (tokens_.at_symbol("[")) return parse_list();
  if (tokens_.at_symbol("{")) return parse_dictionary();
  tokens_.fail_unexpected("a value");
}

const Expression* ExpressionParser::parse_number() {
  const Token token = tokens_.take();
  const char* end = token.text.data() + token.text.size();
  std::from_chars_result result{};
  Value value;
  if (token.kind == TokenKind::integer) {
    std::int64_t integer = 0;
    result = std::from_chars(token.text.data(), end, integer);
    value = integer;
  } else {
    double real = 0;
    result = std::from_chars(token.text.data(), end, real);
    value = real;
  }
  if (result.ec != std::errc() || result.ptr != end) {
    fail_at(token.line, fmt::format("the number {} is out of range", token.text));
  }
  return make(Literal{value});
}

const Expression* ExpressionParser::parse_string() {
  std::string text;
  while (tokens_.at(TokenKind::string)) text += tokens_.take().text;
  return make(Literal{Value(Text(std::move(text)))});
}

const Expression* ExpressionParser::parse_name() {
  const std::string name = tokens_.take().text;
  if (name == "true" || name == "True") return make(Literal{Value(true)});
  if (name == "false" || name == "False") return make(Literal{Value(false)});
  if (name == "none" || name == "None") return make(Literal{Value(None{})});
  return make(Name{name});
}

const Expression* ExpressionParser::parse_parentheses() {
  tokens_.expect_symbol("(");
  if (tokens_.skip_symbol(")")) return make(ListLiteral{{}, true});
  const Expression* inside = parse_tuple();
  tokens_.expect_symbol(")");
  return inside;
}

const Expression* ExpressionParser::parse_list() {
  tokens_.expect_symbol("[");
  std::vector<const Expression*> items;
  while (!tokens_.at_symbol("]")) {
    items.push_back(parse_expression());
    if (!tokens_.skip_symbol(",")) break;
  }
  tokens_.expect_symbol("]");
  return make(ListLiteral{std::move(items), false});
}

const Expression* ExpressionParser::parse_dictionary() {
  tokens_.expect_symbol("{");
  std::vector<std::pair<const Expression*, const Expression*>> entries;
  while (!tokens_.at_symbol("}")) {
    const Expression* key = parse_expression();
    tokens_.expect_symbol(":");
    entries.emplace_back(key, parse_expression());
    if (!tokens_.skip_symbol(",")) break;
  }
  tokens_.expect_symbol("}");
  return make(DictionaryLiteral{std::move(entries)});
}

}  // namespace sift::jinja
