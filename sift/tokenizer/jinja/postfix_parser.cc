#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "sift/tokenizer/jinja/parser.h"

namespace sift::jinja {
namespace {

// After a test's name these go on with the expression and are not its argument.
constexpr std::array<std::string_view, 3> kNotArguments = {"else", "or", "and"};

}  // namespace

const Expression* ExpressionParser::parse_postfix(const Expression* object) {
  for (;;) {
    if (tokens_.at_symbol(".")) {
      object = parse_attribute(object);
    } else if (tokens_.at_symbol("[")) {
      object = parse_subscript(object);
    } else if (tokens_.at_symbol("(")) {
      object = make(Call{object, parse_arguments()});
    } else {
      return object;
    }
  }
}

const Expression* ExpressionParser::parse_attribute(const Expression* object) {
  tokens_.expect_symbol(".");
  if (!tokens_.at(TokenKind::integer)) {
    return make(Attribute{object, tokens_.expect(TokenKind::name, "an attribute's name")});
  }
  const Token token = tokens_.take();
  std::int64_t index = 0;
  const char* end = token.text.data() + token.text.size();
  if (std::from_chars(token.text.data(), end, index).ec != std::errc()) {
    fail_at(token.line, fmt::format("the number {} is out of range", token.text));
  }
  return make(Subscript{object, make(Literal{Value(index)})});
}

const Expression* ExpressionParser::parse_subscript(const Expression* object) {
  tokens_.expect_symbol("[");
  const Expression* bounds[3] = {};  // as in [begin:end:step]
  int colons = 0;
  while (!tokens_.at_symbol("]")) {
    if (tokens_.skip_symbol(":")) {
      if (++colons > 2) tokens_.fail_unexpected("']'");
    } else if (bounds[colons] == nullptr) {
      bounds[colons] = parse_expression();
    } else {
      tokens_.fail_unexpected("']'");
    }
  }
  if (colons == 0 && bounds[0] == nullptr) tokens_.fail_unexpected("an index");
  tokens_.expect_symbol("]");
  if (colons == 0) return make(Subscript{object, bounds[0]});
  return make(Slice{object, bounds[0], bounds[1], bounds[2]});
}

CallArguments ExpressionParser::parse_arguments() {
  tokens_.expect_symbol("(");
  CallArguments arguments;
  while (!tokens_.at_symbol(")")) {
    const bool named = tokens_.at(TokenKind::name) && tokens_.peek(1).kind == TokenKind::symbol &&
                       tokens_.peek(1).text == "=";
    if (named) {
      const std::string name = tokens_.take().text;
      tokens_.take();
      arguments.named.emplace_back(name, parse_expression());
    } else {
      if (!arguments.named.empty()) tokens_.fail_unexpected("a named argument");
      arguments.positional.push_back(parse_expression());
    }
    if (!tokens_.skip_symbol(",")) break;
  }
  tokens_.expect_symbol(")");
  return arguments;
}

std::string ExpressionParser::parse_dotted_name(std::string_view what) {
  std::string name = tokens_.expect(TokenKind::name, what);
  while (tokens_.skip_symbol(".")) name += "." + tokens_.expect(TokenKind::name, what);
  return name;
}

const Expression* ExpressionParser::parse_filters_and_tests(const Expression* input) {
  for (;;) {
    if (tokens_.skip_symbol("|")) {
      input = parse_filter(input);
    } else if (tokens_.at_name("is")) {
      input = parse_test(input);
    } else if (tokens_.at_symbol("(")) {
      input = make(Call{input, parse_arguments()});
    } else {
      return input;
    }
  }
}

const Expression* ExpressionParser::parse_filter(const Expression* input) {
  const std::string name = parse_dotted_name("a filter's name");
  CallArguments arguments;
  if (tokens_.at_symbol("(")) arguments = parse_arguments();
  return make(FilterCall{input, name, std::move(arguments)});
}

const Expression* ExpressionParser::parse_filters(const Expression* input) {
  do {
    input = parse_filter(input);
  } while (tokens_.skip_symbol("|"));
  return input;
}

const Expression* ExpressionParser::parse_test(const Expression* input) {
  tokens_.take();  // `is`
  const bool negated = tokens_.skip_name("not");
  const std::string name = parse_dotted_name("a test's name");
  CallArguments arguments;
  const TokenKind kind = tokens_.peek().kind;
  const bool value_follows = kind == TokenKind::string || kind == TokenKind::integer ||
                             kind == TokenKind::real || tokens_.at_symbol("[") ||
                             tokens_.at_symbol("{");
  const bool name_follows =
      kind == TokenKind::name && std::find(kNotArguments.begin(), kNotArguments.end(),
                                           tokens_.peek().text) == kNotArguments.end();
  if (tokens_.at_symbol("(")) {
    arguments = parse_arguments();
  } else if (value_follows || name_follows) {
    arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  return make(TestCall{input, name, std::move(arguments), negated});
}

}  // namespace sift::jinja
