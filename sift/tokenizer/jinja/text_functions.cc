#include "sift/tokenizer/jinja/text_functions.h"

#include <algorithm>
#include <string>

#include "sift/tokenizer/jinja/operators.h"
#include "sift/tokenizer/jinja/python_format.h"
#include "sift/tokenizer/utf8.h"

namespace sift::jinja {
namespace {

/// The stretches without white space.
std::vector<ByteRange> word_ranges(std::string_view text) {
  std::vector<ByteRange> words;
  bool in_word = false;
  for (const ByteRange& range : character_ranges(text)) {
    const bool space = is_python_space(utf8::decode_first(text.substr(range.begin)).code_point);
    if (space) {
      in_word = false;
    } else if (in_word) {
      words.back().end = range.end;
    } else {
      words.push_back(range);
      in_word = true;
    }
  }
  return words;
}

/// Joins what lies beyond `limit` cuts into one word, with the white space inside it.
void limit_words(std::string_view text, std::vector<ByteRange>& words, std::size_t limit,
                 bool from_right) {
  if (words.size() <= limit + 1) return;
  if (from_right) {
    const std::size_t merged = words.size() - limit;
    words[merged - 1].begin = 0;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(merged - 1));
  } else {
    words.resize(limit + 1);
    words.back().end = text.size();
  }
}

/// Where `separator` occurs, from the left or from the right, none overlapping another.
std::vector<std::size_t> find_cuts(const std::string& text, const std::string& separator,
                                   std::size_t limit, bool from_right) {
  std::vector<std::size_t> cuts;
  if (!from_right) {
    for (std::size_t at = find_text(text, separator);
         at != std::string::npos && cuts.size() < limit;
         at = find_text(text, separator, at + separator.size())) {
      cuts.push_back(at);
    }
    return cuts;
  }
  const std::string mirrored(text.rbegin(), text.rend());
  const std::string mirrored_separator(separator.rbegin(), separator.rend());
  for (std::size_t cut : find_cuts(mirrored, mirrored_separator, limit, false)) {
    cuts.push_back(text.size() - cut - separator.size());
  }
  std::reverse(cuts.begin(), cuts.end());
  return cuts;
}

/// Between all characters, and at both ends, if the text that is looked for is empty.
std::vector<std::size_t> all_borders(const std::string& text, std::size_t limit) {
  std::vector<std::size_t> borders;
  for (const ByteRange& range : character_ranges(text)) borders.push_back(range.begin);
  borders.push_back(text.size());
  borders.resize(std::min(borders.size(), limit));
  return borders;
}

Value make_parts(Context& context, const Text& text, const std::vector<ByteRange>& ranges) {
  std::vector<Value> parts;
  for (const ByteRange& range : ranges) {
    parts.push_back(context.make_text(text.slice(range.begin, range.end - range.begin)));
  }
  return context.make_list(std::move(parts));
}

}  // namespace

Value strip_text(Context& context, const Text& text, Side side, const Value* set) {
  const bool default_set = set == nullptr || set->is<None>();
  const ByteRange rest = strip_range(
      text.bytes(), side, default_set ? nullptr : &require_text("strip()", *set).bytes());
  return context.make_text(text.slice(rest.begin, rest.end - rest.begin));
}

Value split_text(Context& context, const Text& text, const Value* separator, std::int64_t limit,
                 bool from_right) {
  const std::size_t cuts = limit < 0 ? text.size() : static_cast<std::size_t>(limit);
  std::vector<ByteRange> parts;
  if (separator == nullptr || separator->is<None>()) {
    parts = word_ranges(text.bytes());
    limit_words(text.bytes(), parts, cuts, from_right);
    return make_parts(context, text, parts);
  }
  const std::string& between = require_text("split()", *separator).bytes();
  if (between.empty()) fail("split() has an empty separator");
  std::size_t begin = 0;
  for (std::size_t cut : find_cuts(text.bytes(), between, cuts, from_right)) {
    parts.push_back({begin, cut});
    begin = cut + between.size();
  }
  parts.push_back({begin, text.size()});
  return make_parts(context, text, parts);
}

Value replace_text(Context& context, const Text& text, const Text& old, const Text& replacement,
                   std::int64_t limit) {
  const std::size_t most = limit < 0 ? text.size() + 1 : static_cast<std::size_t>(limit);
  const auto cuts = old.size() == 0 ? all_borders(text.bytes(), most)
                                    : find_cuts(text.bytes(), old.bytes(), most, false);
  context.charge(cuts.size() * (1 + replacement.size() / context.limits().bytes_per_step));
  Text out;
  std::size_t begin = 0;
  for (std::size_t cut : cuts) {
    out.append(text, begin, cut - begin);
    out.append(replacement);
    begin = cut + old.size();
  }
  out.append(text, begin, text.size() - begin);
  return context.make_text(std::move(out));
}

Value join_texts(Context& context, const std::vector<Value>& items, const Text& separator) {
  Text out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    context.charge_deep(items[i]);
    if (i > 0) {
      context.charge(1 + separator.size() / context.limits().bytes_per_step);
      out.append(separator);
    }
    out.append(to_python_string(items[i]));
  }
  return context.make_text(std::move(out));
}

}  // namespace sift::jinja
