#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "sift/tokenizer/jinja/ast.h"
#include "sift/tokenizer/jinja/context.h"

namespace sift::jinja {

/// Variables of a block, inside those of the blocks around it.
struct Scope {
  std::unordered_map<std::string, Value> variables;
  std::shared_ptr<Scope> parent;

  /// Null when the name is not set.
  const Value* find(const std::string& name) const;
};

/// Computes the values of expressions. Throws invalid_argument, as operators and filters do.
class Evaluator {
 public:
  explicit Evaluator(Context& context) : context_(context) {}

  Value evaluate(const Expression& expression, const Scope& scope);

  /// Applies a chain of filters, whose innermost input is left out, to `text`.
  Value filter_block(const Expression& filter, const Value& text, const Scope& scope);

  /// The line of the template that is being evaluated, for messages.
  int line() const { return line_; }
  void set_line(int line) { line_ = line; }

  /// Counts how deep evaluation is in itself; beyond the limit it throws.
  class Nesting {
   public:
    explicit Nesting(Evaluator& evaluator);
    ~Nesting() { --evaluator_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Evaluator& evaluator_;
  };

 private:
  friend struct NodeEvaluator;

  Arguments evaluate_arguments(const CallArguments& arguments, const Scope& scope);

  Context& context_;
  int depth_ = 0;
  int line_ = 1;
};

}  // namespace sift::jinja
