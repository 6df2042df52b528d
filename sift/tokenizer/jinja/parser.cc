#include "sift/tokenizer/jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

constexpr int kMaxBlocks = 50;

/// Parses statements: tags and the text between them.
class StatementParser {
 public:
  StatementParser(TokenReader& tokens, Program& program)
      : tokens_(tokens), program_(program), expressions_(tokens, program) {}

  /// Everything up to a tag that begins with one of `ends` (its name is left to take), or, if there
  /// are none, up to the end of the template.
  Body parse_body(std::initializer_list<std::string_view> ends) {
    if (++depth_ > kMaxBlocks) {
      fail_at(tokens_.line(), fmt::format("blocks nest more than {} deep", kMaxBlocks));
    }
    Body body;
    while (!tokens_.at(TokenKind::end)) {
      if (tokens_.at(TokenKind::data)) {
        body.push_back(parse_data());
      } else if (tokens_.at(TokenKind::print_begin)) {
        body.push_back(parse_print());
      } else {
        tokens_.take();  // of kind tag_begin
        if (at_one_of(ends)) break;
        body.push_back(parse_tag());
      }
    }
    if (ends.size() > 0 && tokens_.at(TokenKind::end)) {
      fail_at(tokens_.line(), fmt::format("'{}' is missing", *(ends.end() - 1)));
    }
    --depth_;
    return body;
  }

 private:
  template <typename Node>
  const Statement* make(int line, Node node) {
    return &program_.statements.emplace_back(Statement{line, std::move(node)});
  }

  bool at_one_of(std::initializer_list<std::string_view> names) const {
    return std::any_of(names.begin(), names.end(),
                       [&](std::string_view name) { return tokens_.at_name(name); });
  }

  const Statement* parse_data() {
    const Token token = tokens_.take();
    const Expression* text = &program_.expressions.emplace_back(
        Expression{token.line, Literal{Value(Text(token.text))}});
    return make(token.line, Print{text});
  }

  const Statement* parse_print() {
    const int line = tokens_.take().line;
    const Expression* value = expressions_.parse_tuple();
    tokens_.expect(TokenKind::print_end, "'}}'");
    return make(line, Print{value});
  }

  void end_tag() { tokens_.expect(TokenKind::tag_end, "'%}'"); }

  /// A body and the tag that ends it.
  Body parse_block(std::string_view end) {
    end_tag();
    Body body = parse_body({end});
    tokens_.take();
    end_tag();
    return body;
  }

  const Statement* parse_tag() {
    const int line = tokens_.line();
    const std::string name = tokens_.expect(TokenKind::name, "a statement");
    if (name == "if") return parse_if(line);
    if (name == "for") return parse_for(line);
    if (name == "set") return parse_set(line);
    if (name == "macro") return parse_macro(line);
    if (name == "filter") return parse_filter_block(line);
    if (name == "with") return parse_with(line);
    if (name == "generation") return make(line, Scoped{{}, parse_block("endgeneration")});
    if (name != "break" && name != "continue") {
      fail_at(line, fmt::format("the statement '{}' is unknown here", name));
    }
    if (loops_ == 0) fail_at(line, fmt::format("'{}' stands outside of a loop", name));
    end_tag();
    return name == "break" ? make(line, Break{}) : make(line, Continue{});
  }

  const Statement* parse_if(int line) {
    If node;
    do {
      const Expression* condition = expressions_.parse_tuple(false);
      end_tag();
      node.branches.emplace_back(condition, parse_body({"elif", "else", "endif"}));
    } while (tokens_.take().text == "elif");
    if (previous_was_else()) node.otherwise = parse_otherwise("endif");
    end_tag();
    return make(line, std::move(node));
  }

  bool previous_was_else() const { return tokens_.previous().text == "else"; }

  Body parse_otherwise(std::string_view end) {
    end_tag();
    Body body = parse_body({end});
    tokens_.take();
    return body;
  }

  const Statement* parse_for(int line) {
    For node{};
    node.target = parse_target(false);
    if (!tokens_.skip_name("in")) tokens_.fail_unexpected("'in'");
    node.sequence = expressions_.parse_tuple(false);
    if (tokens_.skip_name("if")) node.condition = expressions_.parse_expression();
    if (tokens_.at_name("recursive")) fail_at(line, "recursive loops are not supported");
    end_tag();
    ++loops_;
    node.body = parse_body({"else", "endfor"});
    --loops_;
    if (tokens_.take().text == "else") node.otherwise = parse_otherwise("endfor");
    end_tag();
    return make(line, std::move(node));
  }

  Target parse_target(bool allow_attribute) {
    Target target;
    const bool parenthesised = tokens_.skip_symbol("(");
    do {
      if (!target.names.empty() && !tokens_.at(TokenKind::name)) break;  // a comma at the end
      const std::string name = tokens_.expect(TokenKind::name, "a variable's name");
      static constexpr std::string_view kReserved[] = {"true", "false", "none",
                                                       "True", "False", "None"};
      if (std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved)) {
        fail_at(tokens_.line(), fmt::format("'{}' cannot be assigned to", name));
      }
      target.names.push_back(name);
    } while (tokens_.skip_symbol(",") && (target.unpacks = true));
    if (parenthesised) tokens_.expect_symbol(")");
    if (allow_attribute && target.names.size() == 1 && tokens_.skip_symbol(".")) {
      target.attribute = tokens_.expect(TokenKind::name, "an attribute's name");
    }
    return target;
  }

  const Statement* parse_set(int line) {
    Target target = parse_target(true);
    if (tokens_.skip_symbol("=")) {
      const Expression* value = expressions_.parse_tuple();
      end_tag();
      return make(line, Set{std::move(target), value});
    }
    const Expression* filter =
        tokens_.skip_symbol("|") ? expressions_.parse_filters(nullptr) : nullptr;
    return make(line, SetBlock{std::move(target), filter, parse_loopless_block("endset")});
  }

  /// A block whose text is captured: a loop around it cannot be left from inside.
  Body parse_loopless_block(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body body = parse_block(end);
    loops_ = loops;
    return body;
  }

  const Statement* parse_macro(int line) {
    MacroDefinition node;
    node.name = tokens_.expect(TokenKind::name, "the macro's name");
    tokens_.expect_symbol("(");
    while (!tokens_.at_symbol(")")) {
      const std::string name = tokens_.expect(TokenKind::name, "a parameter's name");
      const bool has_default = tokens_.skip_symbol("=");
      node.parameters.emplace_back(name, has_default ? expressions_.parse_expression() : nullptr);
      if (!tokens_.skip_symbol(",")) break;
    }
    tokens_.expect_symbol(")");
    node.body = parse_loopless_block("endmacro");
    return make(line, std::move(node));
  }

  const Statement* parse_filter_block(int line) {
    const Expression* filter = expressions_.parse_filters(nullptr);
    return make(line, FilterBlock{filter, parse_loopless_block("endfilter")});
  }

  const Statement* parse_with(int line) {
    Scoped node;
    while (!tokens_.at(TokenKind::tag_end)) {
      const std::string name = tokens_.expect(TokenKind::name, "a variable's name");
      tokens_.expect_symbol("=");
      node.variables.emplace_back(name, expressions_.parse_expression());
      if (!tokens_.skip_symbol(",")) break;
    }
    node.body = parse_block("endwith");
    return make(line, std::move(node));
  }

  TokenReader& tokens_;
  Program& program_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;  ///< around the current tag
};

}  // namespace

std::string TokenReader::expect(TokenKind kind, std::string_view what) {
  if (!at(kind)) fail_unexpected(what);
  return take().text;
}

void TokenReader::expect_symbol(std::string_view text) {
  if (!skip_symbol(text)) fail_unexpected(fmt::format("'{}'", text));
}

void TokenReader::fail_unexpected(std::string_view expected) const {
  static constexpr std::string_view kKinds[] = {"text",       "'{{'",     "'}}'",     "'{%'",
                                                "'%}'",       "the name", "a string", "the number",
                                                "the number", "the sign", "its end"};
  const Token& token = peek();
  const bool shown = token.kind == TokenKind::name || token.kind == TokenKind::symbol ||
                     token.kind == TokenKind::integer || token.kind == TokenKind::real;
  const std::string name = shown ? fmt::format(" '{}'", token.text.substr(0, 40)) : "";
  fail_at(token.line, fmt::format("found {}{}, expected {}",
                                  kKinds[static_cast<std::size_t>(token.kind)], name, expected));
}

Program parse(std::string_view source) {
  if (utf8::find_invalid(source) != std::string_view::npos) fail_at(1, "it is not UTF-8");
  TokenReader tokens(tokenize(source));
  Program program;
  program.body = StatementParser(tokens, program).parse_body({});
  return program;
}

}  // namespace sift::jinja
