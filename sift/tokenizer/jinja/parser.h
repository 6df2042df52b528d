#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "sift/tokenizer/jinja/ast.h"
#include "sift/tokenizer/jinja/lexer.h"

namespace sift::jinja {

/// The tokens of a template and how far they have been read.
class TokenReader {
 public:
  explicit TokenReader(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  /// REQUIRES: a token was taken.
  const Token& previous() const { return tokens_[at_ - 1]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  int line() const { return peek().line; }

  bool at(TokenKind kind) const { return peek().kind == kind; }
  bool at_symbol(std::string_view text) const { return is(TokenKind::symbol, text); }
  bool at_name(std::string_view text) const { return is(TokenKind::name, text); }
  bool skip_symbol(std::string_view text) { return skip(at_symbol(text)); }
  bool skip_name(std::string_view text) { return skip(at_name(text)); }

  /// Take what must come next. Throw bad_file when it does not.
  std::string expect(TokenKind kind, std::string_view what);
  void expect_symbol(std::string_view text);
  [[noreturn]] void fail_unexpected(std::string_view expected) const;

 private:
  bool is(TokenKind kind, std::string_view text) const {
    return peek().kind == kind && peek().text == text;
  }
  bool skip(bool condition) {
    if (condition) take();
    return condition;
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
};

/// Parses expressions. Precedence, lowest first: `if else`, or, and, not, comparisons, + -, ~,
/// * / // %, **, signs, then attributes, calls, filters and tests.
class ExpressionParser {
 public:
  ExpressionParser(TokenReader& tokens, Program& program) : tokens_(tokens), program_(program) {}

  /// One expression, or several with commas between, which make a tuple. Without `conditional`, an
  /// `if` ends it.
  const Expression* parse_tuple(bool conditional = true);
  const Expression* parse_expression();

  /// `name(arguments) | …`, to be applied to `input`.
  const Expression* parse_filters(const Expression* input);

 private:
  class Nesting;

  template <typename Node>
  const Expression* make(Node node) {
    return &program_.expressions.emplace_back(Expression{tokens_.line(), std::move(node)});
  }
  const Expression* parse_conditional();
  const Expression* parse_or();
  const Expression* parse_and();
  const Expression* parse_not();
  const Expression* parse_comparison();
  const Expression* parse_binary(int level);
  const Expression* parse_unary(bool with_filters);
  const Expression* parse_primary();
  const Expression* parse_number();
  const Expression* parse_string();
  const Expression* parse_name();
  const Expression* parse_parentheses();
  const Expression* parse_list();
  const Expression* parse_dictionary();
  const Expression* parse_postfix(const Expression* object);
  const Expression* parse_attribute(const Expression* object);
  const Expression* parse_subscript(const Expression* object);
  const Expression* parse_filters_and_tests(const Expression* input);
  const Expression* parse_filter(const Expression* input);
  const Expression* parse_test(const Expression* input);
  bool ends_tuple(bool conditional) const;
  bool take_relation(Relation& relation);
  CallArguments parse_arguments();
  std::string parse_dotted_name(std::string_view what);

  TokenReader& tokens_;
  Program& program_;
  int depth_ = 0;
};

}  // namespace sift::jinja
