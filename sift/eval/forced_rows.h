#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "sift/engine/engine.h"

namespace sift {

/// Tokens that are run as they are, whatever the model would have written.
struct ForcedTokens {
  std::vector<std::int32_t> tokens;
  std::int64_t prompt_tokens = 0;  ///< the first of them that run as a prompt
};

/// Called after every pass with the rows run so far; return false to stop there.
using RowsCallback = std::function<bool(std::int64_t rows)>;

/// Runs all tokens through an empty `sequence`, layer by layer over many rows at once, its policy
/// treating those after the prompt; no logits are computed. A beginning-of-text token takes the
/// place of the first token where the model asks for one and there is no prompt. False when the
/// callback ended it. Throws Error (invalid_argument) when there are no tokens, or more than the
/// engine's context.
bool run_forced_rows(Engine& engine, Sequence& sequence, const ForcedTokens& forced,
                     const RowsCallback& callback = {});

}  // namespace sift
