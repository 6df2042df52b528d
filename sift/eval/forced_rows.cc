#include "sift/eval/forced_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "sift/core/error.h"
#include "sift/model/model.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

void check(const Engine& engine, const ForcedTokens& forced) {
  const auto count = static_cast<std::int64_t>(forced.tokens.size());
  if (count < 1 || count > engine.context()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} tokens to run, expected 1 to the {} of the context", count,
                            engine.context()));
  }
}

std::vector<std::int32_t> with_beginning(const Engine& engine, const ForcedTokens& forced) {
  std::vector<std::int32_t> tokens = forced.tokens;
  const Tokenizer& tokenizer = engine.tokenizer();
  if (forced.prompt_tokens == 0 && tokenizer.adds_bos() && tokenizer.bos_id()) {
    tokens[0] = *tokenizer.bos_id();
  }
  return tokens;
}

}  // namespace

bool run_forced_rows(Engine& engine, Sequence& sequence, const ForcedTokens& forced,
                     const RowsCallback& callback) {
  check(engine, forced);
  const std::vector<std::int32_t> tokens = with_beginning(engine, forced);
  const auto count = static_cast<std::int64_t>(tokens.size());
  sequence.attention().begin_prompt(forced.prompt_tokens);
  while (sequence.length() < count) {
    const std::int64_t begin = sequence.length();
    const std::int64_t rows = std::min(count - begin, kPromptChunk);
    const std::int64_t prompt_rows =
        std::clamp(forced.prompt_tokens - begin, std::int64_t{0}, rows);
    sequence.reserve(rows);
    const Segment segment{&sequence, 0, rows, prompt_rows};
    engine.transformer().forward(
        {{tokens.data() + begin, static_cast<std::size_t>(rows)}, {&segment, 1}, false});
    if (callback && !callback(sequence.length()) && sequence.length() < count) return false;
  }
  engine.model().check_intact();
  return true;
}

}  // namespace sift
