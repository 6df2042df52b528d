#include "sift/tokenizer/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sift/core/error.h"
#include "sift/tokenizer/jinja/string_literal.h"
#include "sift/tokenizer/jinja/text.h"
#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

constexpr std::array<std::string_view, 22> kSymbols = {  // longer ones first
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%",
    "~",  "[",  "]",  "(",  ")",  "{",  "}", ">", "<", "=", "."};
constexpr std::string_view kOtherSymbols = ":|,;";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool begins_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool continues_name(char c) { return begins_name(c) || is_digit(c); }

/// All line ends become \n, and one at the end of the source goes.
std::string normalise_lines(std::string_view source) {
  std::string out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (source.substr(i, 2) == "\r\n") ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalise_lines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      lex_data();
      if (at_ >= source_.size()) break;
      if (starts_with("{#")) {
        skip_comment();
      } else if (raw_tag_length("raw") > 0) {
        lex_raw();
      } else {
        lex_tag();
      }
    }
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool starts_with(std::string_view text) const { return rest().substr(0, text.size()) == text; }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }

  void advance(std::size_t count) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at_ + count),
                                         '\n'));
    at_ += count;
  }

  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  /// The text up to the next tag, without the white space that the tag takes away.
  void lex_data() {
    std::size_t end = at_;
    while (end < source_.size()) {
      end = std::min(source_.find('{', end), source_.size());
      const char next = end + 1 < source_.size() ? source_[end + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') break;
      end += end < source_.size();
    }
    const std::string_view text = std::string_view(source_).substr(at_, end - at_);
    const std::string_view kept = end < source_.size() ? strip_before(text, end) : text;
    if (!kept.empty()) add(TokenKind::data, std::string(kept));
    if (!text.empty()) line_starting_ = text.back() == '\n';
    advance(text.size());
  }

  /// `text` stands before the tag at `tag`.
  std::string_view strip_before(std::string_view text, std::size_t tag) const {
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (sign == '-') return text.substr(0, strip_range(text, Side::right).end);
    if (sign == '+' || source_[tag + 1] == '{') return text;
    const std::size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
    const ByteRange blank = strip_range(text.substr(line), Side::left);
    const bool only_space = blank.begin == text.size() - line;
    return only_space && (line > 0 || line_starting_) ? text.substr(0, line) : text;
  }

  /// After a tag: `-` takes all white space, otherwise a tag or comment takes one newline.
  void skip_after(bool strip, bool takes_newline) {
    const std::size_t begin = at_;
    if (strip) {
      advance(strip_range(rest(), Side::left).begin);
    } else if (takes_newline && peek() == '\n') {
      advance(1);
    }
    line_starting_ = at_ > begin && source_[at_ - 1] == '\n';
  }

  void skip_comment() {
    const std::size_t close = source_.find("#}", at_ + 2);
    if (close == std::string::npos) fail_at(line_, "a comment does not end");
    const char sign = close > at_ + 2 ? source_[close - 1] : '\0';
    advance(close + 2 - at_);
    skip_after(sign == '-', sign != '+');
  }

  /// The length of `{% word %}` here, with its signs, or 0.
  std::size_t raw_tag_length(std::string_view word) const { return raw_tag_length_at(at_, word); }
  std::size_t raw_tag_length_at(std::size_t begin, std::string_view word) const {
    std::string_view text = std::string_view(source_).substr(begin);
    const std::size_t whole = text.size();
    const auto skip_spaces = [&] { text.remove_prefix(strip_range(text, Side::left).begin); };
    if (text.substr(0, 2) != "{%") return 0;
    text.remove_prefix(2);
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
    skip_spaces();
    if (text.substr(0, word.size()) != word) return 0;
    text.remove_prefix(word.size());
    skip_spaces();
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
    return text.substr(0, 2) == "%}" ? whole - text.size() + 2 : 0;
  }

  void skip_raw_tag(std::size_t length, bool takes_newline) {
    const char sign = source_[at_ + length - 3];
    advance(length);
    skip_after(sign == '-', takes_newline && sign != '+');
  }

  void lex_raw() {
    skip_raw_tag(raw_tag_length("raw"), false);
    std::size_t end = source_.find("{%", at_);
    while (end != std::string::npos && raw_tag_length_at(end, "endraw") == 0) {
      end = source_.find("{%", end + 1);
    }
    if (end == std::string::npos) fail_at(line_, "a raw block does not end");
    const std::string_view text = std::string_view(source_).substr(at_, end - at_);
    if (const auto kept = strip_before(text, end); !kept.empty()) {
      add(TokenKind::data, std::string(kept));
    }
    advance(text.size());
    skip_raw_tag(raw_tag_length("endraw"), true);
  }

  void lex_tag() {
    const bool prints = starts_with("{{");
    add(prints ? TokenKind::print_begin : TokenKind::tag_begin, "");
    advance(2);
    if (peek() == '-' || peek() == '+') advance(1);
    brackets_.clear();
    while (!lex_tag_end(prints)) {
      if (at_ >= source_.size()) fail_at(line_, "a tag does not end");
      lex_token();
    }
  }

  /// Inside brackets, `}}` closes them and not the tag.
  bool lex_tag_end(bool prints) {
    if (!brackets_.empty()) return false;
    const std::string_view close = prints ? "}}" : "%}";
    const std::size_t sign = peek() == '-' || (peek() == '+' && !prints) ? 1 : 0;
    if (rest().substr(sign, 2) != close) return false;
    const bool strip = peek() == '-', keep = peek() == '+';
    add(prints ? TokenKind::print_end : TokenKind::tag_end, "");
    advance(sign + 2);
    skip_after(strip, !prints && !keep);
    return true;
  }

  void lex_token() {
    const char c = peek();
    const utf8::Step step = utf8::decode_first(rest());
    if (is_python_space(step.code_point)) return advance(step.length);
    if (begins_name(c)) return lex_name();
    if (is_digit(c)) return lex_number();
    if (c == '"' || c == '\'') return lex_string(c);
    lex_symbol();
  }

  void lex_name() {
    std::size_t length = 1;
    while (continues_name(peek(length))) ++length;
    take(TokenKind::name, length);
  }

  void take(TokenKind kind, std::size_t length) {
    add(kind, std::string(rest().substr(0, length)));
    advance(length);
  }

  std::size_t digits_from(std::size_t ahead) const {
    while (is_digit(peek(ahead)) || (peek(ahead) == '_' && is_digit(peek(ahead + 1)))) ++ahead;
    return ahead;
  }

  void lex_number() {
    std::size_t length = digits_from(0);
    bool real = false;
    if (peek(length) == '.' && is_digit(peek(length + 1))) {
      length = digits_from(length + 1);
      real = true;
    }
    if (peek(length) == 'e' || peek(length) == 'E') {
      const std::size_t sign = peek(length + 1) == '+' || peek(length + 1) == '-' ? 1 : 0;
      if (is_digit(peek(length + 1 + sign))) {
        length = digits_from(length + 1 + sign);
        real = true;
      }
    }
    std::string text(rest().substr(0, length));
    std::erase(text, '_');
    add(real ? TokenKind::real : TokenKind::integer, text);
    advance(length);
  }

  void lex_string(char quote) {
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail_at(line_, "a string does not end");
    const std::string_view inside = std::string_view(source_).substr(at_ + 1, end - at_ - 1);
    const auto text = resolve_escapes(inside);
    if (!text) fail_at(line_, "a string holds a broken escape");
    add(TokenKind::string, *text);
    advance(end + 1 - at_);
  }

  void lex_symbol() {
    const auto found = std::find_if(kSymbols.begin(), kSymbols.end(),
                                    [&](std::string_view symbol) { return starts_with(symbol); });
    const bool other = kOtherSymbols.find(peek()) != std::string_view::npos && peek() != '\0';
    if (found == kSymbols.end() && !other) {
      const std::size_t length = utf8::decode_first(rest()).length;
      fail_at(line_,
              fmt::format("a tag holds '{}', which means nothing there", rest().substr(0, length)));
    }
    balance(peek());
    take(TokenKind::symbol, other ? 1 : found->size());
  }

  void balance(char c) {
    static constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (kOpen.find(c) != std::string_view::npos) brackets_ += c;
    const std::size_t closed = kClose.find(c);
    if (closed == std::string_view::npos) return;
    if (brackets_.empty() || brackets_.back() != kOpen[closed]) {
      fail_at(line_, fmt::format("a '{}' closes nothing", c));
    }
    brackets_.pop_back();
  }

  std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  ///< whether what came before ended in a newline
  std::string brackets_;       ///< open ones
  std::vector<Token> tokens_;
};

}  // namespace

void fail_at(int line, const std::string& message) {
  throw Error(ErrorKind::bad_file, fmt::format("the chat template, line {}: {}", line, message));
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace sift::jinja
