#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sift/engine/engine.h"
#include "sift/eval/forced_rows.h"

namespace sift {

/// The tokens of the text of a file named `name` (for messages). One whose name ends in `.jsonl`
/// holds documents, a JSON object a line: "text", or "prefix" and "gold_completion", which belong
/// together without a space; each document is followed by the model's end-of-text token. Any other
/// is one text. Special tokens are recognised in texts and plain text in documents. Throws Error:
/// invalid_argument for an empty text, bad_file naming the line of what is no document.
std::vector<std::int32_t> corpus_tokens(const Engine& engine, std::string_view name,
                                        std::string_view text);

/// Tells texts apart: 16 hexadecimal digits (FNV-1a).
std::string fingerprint(std::string_view text);

/// Consecutive windows of `context` tokens, each a request without a prompt. Throws Error
/// (invalid_argument) when the tokens do not fill `windows` (0: all that they fill, at least one).
std::vector<ForcedTokens> cut_windows(std::span<const std::int32_t> tokens, std::int64_t context,
                                      std::int64_t windows);

/// The completions of a task, JSON objects a line with "prompt" and "completion" (the text of a
/// prompt holds its special tokens) and, where it is known, "token_ids" of the completion, as
/// requests whose prompt is the prompt. A first line without either is taken for the settings of
/// the run. Throws Error: bad_file naming the line of what is
/// no completion, invalid_argument when there is none.
std::vector<ForcedTokens> completion_requests(const Engine& engine, std::string_view name,
                                              std::string_view text);

}  // namespace sift
