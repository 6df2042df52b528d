#include "sift/tokenizer/pre_tokenizer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>

#include "sift/core/error.h"
#include "sift/model/gguf.h"

namespace sift {
namespace {

// White space is written as a Unicode property throughout: \s of PCRE2 also takes U+180E and leaves
// out U+0085, and a third of adversarial texts is then cut in other places than in training.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+)"
    R"(|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+)";

constexpr std::string_view kContractionsAndWords =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
constexpr std::string_view kSymbolsAndSpaces =
    R"(| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*|\p{White_Space}*[\r\n]+)"
    R"(|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+)";

std::string with_numbers(std::string_view numbers) {
  return fmt::format("{}{}{}", kContractionsAndWords, numbers, kSymbolsAndSpaces);
}

struct Definition {
  std::string_view name;
  std::vector<std::string> stages;
  bool whole_words_first;
};

const std::array<Definition, 4>& definitions() {
  static const std::array<Definition, 4> kDefinitions = {{
      {"gpt-2", {std::string(kGpt2)}, false},
      {"llama-bpe", {with_numbers(R"(\p{N}{1,3})")}, true},
      {"qwen2", {with_numbers(R"(\p{N})")}, false},
      {"smollm", {R"(\p{N})", std::string(kGpt2)}, false},
  }};
  return kDefinitions;
}

const Definition& find_definition(std::string_view name) {
  const auto& all = definitions();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Definition& each) { return each.name == name; });
  if (found != all.end()) return *found;
  std::vector<std::string_view> known;
  for (const Definition& each : all) known.push_back(each.name);
  throw Error(
      ErrorKind::bad_file,
      fmt::format("the pre-tokenizer '{}' (tokenizer.ggml.pre) is not supported: known are {}",
                  printable(name), fmt::join(known, ", ")));
}

}  // namespace

PreTokenizer::PreTokenizer(std::string_view name) {
  const Definition& definition = find_definition(name);
  for (const std::string& pattern : definition.stages) stages_.emplace_back(pattern);
  whole_words_first_ = definition.whole_words_first;
}

std::vector<std::string_view> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  if (!text.empty()) pieces.push_back(text);
  for (const RegexSplitter& stage : stages_) {
    std::vector<std::string_view> finer;
    for (std::string_view piece : pieces) stage.split(piece, finer);
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace sift
