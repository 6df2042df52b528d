#include "sift/tokenizer/jinja/evaluator.h"

#include <fmt/format.h>

#include "sift/tokenizer/jinja/attributes.h"
#include "sift/tokenizer/jinja/filters.h"
#include "sift/tokenizer/jinja/operators.h"
#include "sift/tokenizer/jinja/python_format.h"

namespace sift::jinja {

const Value* Scope::find(const std::string& name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    const auto found = scope->variables.find(name);
    if (found != scope->variables.end()) return &found->second;
  }
  return nullptr;
}

Evaluator::Nesting::Nesting(Evaluator& evaluator) : evaluator_(evaluator) {
  if (evaluator.depth_ >= evaluator.context_.limits().nesting) {
    fail(fmt::format("it nests more than {} deep", evaluator.context_.limits().nesting));
  }
  ++evaluator.depth_;
}

/// The value of each kind of expression.
struct NodeEvaluator {
  Evaluator& evaluator;
  const Scope& scope;

  Context& context() const { return evaluator.context_; }
  Value value_of(const Expression* expression) const {
    return evaluator.evaluate(*expression, scope);
  }

  Value operator()(const Literal& node) const { return node.value; }

  Value operator()(const Name& node) const {
    const Value* found = scope.find(node.name);
    return found == nullptr ? Value(Undefined{node.name}) : *found;
  }

  Value operator()(const Unary& node) const {
    return apply_unary(node.operation, value_of(node.operand));
  }

  Value operator()(const Binary& node) const {
    const Value left = value_of(node.left);
    if (node.operation == BinaryOperator::logical_and)
      return is_true(left) ? value_of(node.right) : left;
    if (node.operation == BinaryOperator::logical_or)
      return is_true(left) ? left : value_of(node.right);
    const Value right = value_of(node.right);
    if (node.operation != BinaryOperator::join) {
      return apply_binary(context(), node.operation, left, right);
    }
    context().charge_deep(left);
    context().charge_deep(right);
    Text text = to_python_string(left);
    text.append(to_python_string(right));
    return context().make_text(std::move(text));
  }

  Value operator()(const Comparison& node) const {
    Value left = value_of(node.first);
    for (const auto& [relation, expression] : node.rest) {
      const Value right = value_of(expression);
      if (!holds(context(), relation, left, right)) return false;
      left = right;
    }
    return true;
  }

  Value operator()(const Conditional& node) const {
    if (is_true(value_of(node.condition))) return value_of(node.then);
    return node.otherwise == nullptr ? Value(Undefined{"an 'if' without 'else'"})
                                     : value_of(node.otherwise);
  }

  Value operator()(const Attribute& node) const {
    return get_attribute(value_of(node.object), node.name);
  }

  Value operator()(const Subscript& node) const {
    const Value object = value_of(node.object);
    return get_item(context(), object, value_of(node.index));
  }

  Value operator()(const Slice& node) const {
    const Value object = value_of(node.object);
    const Expression* const expressions[] = {node.begin, node.end, node.step};
    Value bounds[3];
    for (int i = 0; i < 3; ++i) {
      bounds[i] = expressions[i] == nullptr ? Value(None{}) : value_of(expressions[i]);
    }
    return slice(context(), object, &bounds[0], &bounds[1], &bounds[2]);
  }

  Value operator()(const Call& node) const {
    const Value callee = value_of(node.callee);
    if (!callee.is<CallablePointer>()) {
      const bool named = callee.is_undefined() && !callee.as<Undefined>().name.empty();
      fail(named ? fmt::format("'{}' is called, but it is undefined", callee.as<Undefined>().name)
                 : fmt::format("{} cannot be called", type_name(callee)));
    }
    const Arguments arguments = evaluator.evaluate_arguments(node.arguments, scope);
    return callee.as<CallablePointer>()->function(context(), arguments);
  }

  Value operator()(const FilterCall& node) const {
    const Value input = value_of(node.input);
    return apply_filter(context(), node.name, input,
                        evaluator.evaluate_arguments(node.arguments, scope));
  }

  Value operator()(const TestCall& node) const {
    const Value input = value_of(node.input);
    const Arguments arguments = evaluator.evaluate_arguments(node.arguments, scope);
    return apply_test(context(), node.name, input, arguments) != node.negated;
  }

  Value operator()(const ListLiteral& node) const {
    std::vector<Value> items;
    items.reserve(node.items.size());
    for (const Expression* item : node.items) items.push_back(value_of(item));
    return context().make_list(std::move(items), node.is_tuple);
  }

  Value operator()(const DictionaryLiteral& node) const {
    Dictionary dictionary;
    for (const auto& [key, value] : node.entries) {
      const Value key_value = value_of(key);
      context().charge_deep(key_value);
      dictionary.set(key_value, value_of(value));
    }
    return make_dictionary(std::move(dictionary));
  }
};

Value Evaluator::evaluate(const Expression& expression, const Scope& scope) {
  const Nesting nesting(*this);
  context_.charge(1);
  line_ = expression.line;
  return std::visit(NodeEvaluator{*this, scope}, expression.node);
}

Arguments Evaluator::evaluate_arguments(const CallArguments& arguments, const Scope& scope) {
  Arguments values;
  for (const Expression* each : arguments.positional)
    values.positional.push_back(evaluate(*each, scope));
  for (const auto& [name, each] : arguments.named)
    values.named.emplace_back(name, evaluate(*each, scope));
  return values;
}

Value Evaluator::filter_block(const Expression& filter, const Value& text, const Scope& scope) {
  const Nesting nesting(*this);
  const auto& call = std::get<FilterCall>(filter.node);
  const Value input = call.input == nullptr ? text : filter_block(*call.input, text, scope);
  return apply_filter(context_, call.name, input, evaluate_arguments(call.arguments, scope));
}

}  // namespace sift::jinja
