#include "sift/tokenizer/jinja/interpreter.h"

#include <fmt/format.h>

#include <memory>
#include <unordered_map>

#include "sift/core/error.h"
#include "sift/tokenizer/jinja/attributes.h"
#include "sift/tokenizer/jinja/evaluator.h"
#include "sift/tokenizer/jinja/globals.h"
#include "sift/tokenizer/jinja/operators.h"
#include "sift/tokenizer/jinja/python_format.h"

namespace sift::jinja {

/// Runs statements. One member function per kind of statement; each says how the body goes on.
class Interpreter {
 public:
  Interpreter(Context& context, const Variables& variables)
      : context_(context), evaluator_(context), scope_(std::make_shared<Scope>()) {
    for (const Variables& each : {global_functions(), variables}) {
      for (const auto& [name, value] : each) scope_->variables[name] = value;
    }
    scope_ = std::make_shared<Scope>(Scope{{}, scope_});
  }

  Text run(const Program& program) {
    try {
      run_body(program.body);
    } catch (const Error& error) {
      throw Error(error.kind(),
                  fmt::format("the chat template, line {}: {}", evaluator_.line(), error.what()));
    }
    return std::move(output_);
  }

 private:
  enum class Flow { next, leave_loop, next_iteration };

  Flow run_body(const Body& body) {
    for (const Statement* statement : body) {
      evaluator_.set_line(statement->line);
      context_.charge(1);
      const Flow flow =
          std::visit([this](const auto& node) { return run_node(node); }, statement->node);
      if (flow != Flow::next) return flow;
    }
    return Flow::next;
  }

  Flow run_scoped(const Body& body, std::shared_ptr<Scope> scope) {
    const Evaluator::Nesting nesting(evaluator_);
    std::swap(scope_, scope);
    const Flow flow = run_body(body);
    std::swap(scope_, scope);
    return flow;
  }

  std::shared_ptr<Scope> inner_scope() { return std::make_shared<Scope>(Scope{{}, scope_}); }
  Value evaluate(const Expression* expression) { return evaluator_.evaluate(*expression, *scope_); }

  Flow run_node(const Print& node) {
    print(evaluate(node.value));
    return Flow::next;
  }

  void print(const Value& value) {
    context_.charge_deep(value);
    output_.append(to_python_string(value));
    if (output_.size() > context_.limits().output_bytes) {
      fail(fmt::format("it writes more than {} bytes", context_.limits().output_bytes));
    }
  }

  Flow run_node(const If& node) {
    for (const auto& [condition, body] : node.branches) {
      if (is_true(evaluate(condition))) return run_nested(body);
    }
    return run_nested(node.otherwise);
  }

  /// A body without variables of its own.
  Flow run_nested(const Body& body) {
    const Evaluator::Nesting nesting(evaluator_);
    return run_body(body);
  }

  Flow run_node(const For& node) {
    std::vector<Value> items = context_.items(evaluate(node.sequence));
    if (node.condition != nullptr) items = filter_items(node, items);
    if (items.empty()) return run_scoped(node.otherwise, inner_scope());
    auto list = std::make_shared<List>();
    list->items = std::move(items);
    const auto loop = std::make_shared<Loop>(Loop{list, 0});
    for (; loop->index < list->items.size(); ++loop->index) {
      if (run_iteration(node, loop) == Flow::leave_loop) break;
    }
    return Flow::next;
  }

  Flow run_iteration(const For& node, const std::shared_ptr<Loop>& loop) {
    const auto scope = inner_scope();
    context_.charge(2);
    scope->variables["loop"] = loop;
    assign(node.target, loop->items->items[loop->index], *scope);
    return run_scoped(node.body, scope);
  }

  std::vector<Value> filter_items(const For& node, const std::vector<Value>& items) {
    std::vector<Value> kept;
    for (const Value& item : items) {
      Scope scope{{}, scope_};
      assign(node.target, item, scope);
      if (is_true(evaluator_.evaluate(*node.condition, scope))) kept.push_back(item);
    }
    return kept;
  }

  void assign(const Target& target, const Value& value, Scope& scope) {
    if (target.attribute) return assign_attribute(target, value, scope);
    if (!target.unpacks) {
      scope.variables[target.names[0]] = value;
      return;
    }
    const std::vector<Value> parts = context_.items(value);
    if (parts.size() != target.names.size()) {
      fail(fmt::format("{} values cannot be unpacked into {} names", parts.size(),
                       target.names.size()));
    }
    for (std::size_t i = 0; i < parts.size(); ++i) scope.variables[target.names[i]] = parts[i];
  }

  void assign_attribute(const Target& target, const Value& value, const Scope& scope) {
    const Value* space = scope.find(target.names[0]);
    if (space == nullptr || !space->is<Namespace*>()) {
      fail(fmt::format("'{}' is no namespace, so its attributes cannot be set", target.names[0]));
    }
    space->as<Namespace*>()->attributes[*target.attribute] = value;
  }

  Flow run_node(const Set& node) {
    assign(node.target, evaluate(node.value), *scope_);
    return Flow::next;
  }

  Flow run_node(const SetBlock& node) {
    Value text = capture(node.body, inner_scope());
    if (node.filter != nullptr) text = evaluator_.filter_block(*node.filter, text, *scope_);
    assign(node.target, text, *scope_);
    return Flow::next;
  }

  Flow run_node(const FilterBlock& node) {
    const Value text = capture(node.body, inner_scope());
    print(evaluator_.filter_block(*node.filter, text, *scope_));
    return Flow::next;
  }

  /// What a body prints.
  Value capture(const Body& body, std::shared_ptr<Scope> scope) {
    Text outer = std::exchange(output_, Text());
    run_scoped(body, std::move(scope));
    return context_.make_text(std::exchange(output_, std::move(outer)));
  }

  /// A macro sees the variables of the place where it is defined, as they are when it is called.
  /// Its scope is held weakly: it may be the variable that holds the macro.
  Flow run_node(const MacroDefinition& node) {
    const auto call = [this, &node, weak = std::weak_ptr<Scope>(scope_)](
                          Context&, const Arguments& arguments) {
      const auto parent = weak.lock();
      if (!parent) fail(fmt::format("the macro '{}' is called outside of its block", node.name));
      return call_macro(node, parent, arguments);
    };
    scope_->variables[node.name] = std::make_shared<const Callable>(Callable{node.name, call});
    return Flow::next;
  }

  Value call_macro(const MacroDefinition& node, const std::shared_ptr<Scope>& parent,
                   const Arguments& arguments) {
    const auto scope = std::make_shared<Scope>(Scope{{}, parent});
    if (arguments.positional.size() > node.parameters.size()) {
      fail(fmt::format("the macro '{}' takes at most {} arguments", node.name,
                       node.parameters.size()));
    }
    for (std::size_t i = 0; i < node.parameters.size(); ++i) {
      const auto& [name, default_value] = node.parameters[i];
      Value value = Undefined{name};
      if (i < arguments.positional.size()) {
        value = arguments.positional[i];
      } else if (default_value != nullptr) {
        value = evaluator_.evaluate(*default_value, *scope);
      }
      scope->variables[name] = value;
    }
    set_named(node, arguments, *scope);
    return capture(node.body, scope);
  }

  static void set_named(const MacroDefinition& node, const Arguments& arguments, Scope& scope) {
    for (const auto& [name, value] : arguments.named) {
      std::size_t at = 0;
      while (at < node.parameters.size() && node.parameters[at].first != name) ++at;
      if (at == node.parameters.size() || at < arguments.positional.size()) {
        fail(fmt::format("the macro '{}' cannot take the argument '{}'", node.name, name));
      }
      scope.variables[name] = value;
    }
  }

  Flow run_node(const Scoped& node) {
    const auto scope = inner_scope();
    for (const auto& [name, value] : node.variables) scope->variables[name] = evaluate(value);
    return run_scoped(node.body, scope);
  }

  Flow run_node(const Break&) { return Flow::leave_loop; }
  Flow run_node(const Continue&) { return Flow::next_iteration; }

  Context& context_;
  Evaluator evaluator_;
  std::shared_ptr<Scope> scope_;
  Text output_;
};

Text run(const Program& program, Context& context, const Variables& variables) {
  return Interpreter(context, variables).run(program);
}

}  // namespace sift::jinja
