#pragma once

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "sift/tokenizer/jinja/value.h"

namespace sift::jinja {

// Nodes point at each other; a Program owns them all, so that a tree of any depth is destroyed
// without recursion.
struct Expression;
struct Statement;
using Body = std::vector<const Statement*>;

enum class UnaryOperator { plus, minus, negation };
enum class BinaryOperator {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  join,
  logical_and,
  logical_or
};
enum class Relation { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

struct CallArguments {
  std::vector<const Expression*> positional;
  std::vector<std::pair<std::string, const Expression*>> named;
};

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct Unary {
  UnaryOperator operation;
  const Expression* operand;
};
struct Binary {
  BinaryOperator operation;
  const Expression* left;
  const Expression* right;
};
struct Comparison {  ///< a < b < c holds if each neighbouring pair does
  const Expression* first;
  std::vector<std::pair<Relation, const Expression*>> rest;
};
struct Conditional {
  const Expression* condition;
  const Expression* then;
  const Expression* otherwise;  ///< null: undefined
};
struct Attribute {
  const Expression* object;
  std::string name;
};
struct Subscript {
  const Expression* object;
  const Expression* index;
};
struct Slice {  ///< any bound may be null
  const Expression* object;
  const Expression* begin;
  const Expression* end;
  const Expression* step;
};
struct Call {
  const Expression* callee;
  CallArguments arguments;
};
struct FilterCall {
  const Expression* input;  ///< null: the text of a filter block
  std::string name;
  CallArguments arguments;
};
struct TestCall {
  const Expression* input;
  std::string name;
  CallArguments arguments;
  bool negated;
};
struct ListLiteral {
  std::vector<const Expression*> items;
  bool is_tuple;
};
struct DictionaryLiteral {
  std::vector<std::pair<const Expression*, const Expression*>> entries;
};

struct Expression {
  int line;
  std::variant<Literal, Name, Unary, Binary, Comparison, Conditional, Attribute, Subscript, Slice,
               Call, FilterCall, TestCall, ListLiteral, DictionaryLiteral>
      node;
};

/// What `set` and `for` assign to.
struct Target {
  std::vector<std::string> names;
  bool unpacks = false;                  ///< the value holds one item for each name
  std::optional<std::string> attribute;  ///< of the namespace names[0]
};

struct Print {
  const Expression* value;
};
struct If {
  std::vector<std::pair<const Expression*, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  const Expression* sequence;
  const Expression* condition;  ///< null: all items
  Body body;
  Body otherwise;
};
struct Set {
  Target target;
  const Expression* value;
};
struct SetBlock {
  Target target;
  const Expression* filter;  ///< innermost input null; null: none
  Body body;
};
struct FilterBlock {
  const Expression* filter;  ///< innermost input null
  Body body;
};
struct MacroDefinition {
  std::string name;
  std::vector<std::pair<std::string, const Expression*>> parameters;  ///< with default, or null
  Body body;
};
struct Scoped {  ///< `generation` and `with`: a body with variables of its own
  std::vector<std::pair<std::string, const Expression*>> variables;
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<Print, If, For, Set, SetBlock, FilterBlock, MacroDefinition, Scoped, Break, Continue>
      node;
};

/// A parsed template.
struct Program {
  std::deque<Expression> expressions;
  std::deque<Statement> statements;
  Body body;
};

/// Parses the source of a template. Throws bad_file, naming the line, when it is not UTF-8, not of
/// the supported language, or nested too deeply.
Program parse(std::string_view source);

}  // namespace sift::jinja
