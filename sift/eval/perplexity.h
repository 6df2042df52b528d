#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "sift/attention/policy.h"
#include "sift/attention/statistics.h"
#include "sift/engine/engine.h"

namespace sift {

/// Which predictions of a window of N tokens count. Row i (from 0) predicts token i + 1.
enum class Score : std::uint8_t {
  all,           ///< rows 0 … N − 2: every position but the first
  second_half,   ///< rows N/2 … N − 2, as llama.cpp's tool
  after_prompt,  ///< rows P … N − 2, P the prompt's tokens
};

/// How the rows of a window run.
enum class EvaluationPath : std::uint8_t {
  prefill,  ///< layer by layer, all rows at once, matrix-matrix products
  decode,   ///< token by token after the prompt, through the decode kernels
};

/// `policy` as evaluations run it: with the gate off, so that speed rules never flatter quality.
Policy evaluation_policy(Policy policy);

struct PerplexityOptions {
  Policy policy;                   ///< runs as evaluation_policy() has it
  std::int64_t context = 0;        ///< N, tokens of a window; 2 to the engine's context
  std::int64_t windows = 0;        ///< windows to run from the text's start; 0 is all whole ones
  std::int64_t prompt_tokens = 0;  ///< P, rows of a window that run dense; 0 … N − 2
  Score score = Score::all;
  EvaluationPath path = EvaluationPath::prefill;
};

struct PerplexityResult {
  double perplexity = 0;
  double standard_error = 0;  ///< of the perplexity, from the spread of the scored tokens' nll
  std::int64_t scored_tokens = 0;
  std::int64_t windows = 0;
  double seconds = 0;
  AttentionTotals attention;
  std::string notice;
  bool interrupted = false;  ///< fewer windows than asked ran
};

/// Called after every pass with what the whole windows came to so far, and the rows that ran, of
/// all windows; return false to stop there. The window at hand is then left out: figures of a part
/// of one could not be compared with any others.
using PerplexityCallback = std::function<bool(const PerplexityResult& so_far, std::int64_t rows)>;

/// Perplexity of consecutive windows of `tokens`, each in a cache of its own, no beginning-of-text
/// token unless the model asks for one (it then takes the place of the window's first token).
/// Throws Error (invalid_argument) when options are out of range or the text is shorter than asked.
PerplexityResult perplexity(Engine& engine, std::span<const std::int32_t> tokens,
                            const PerplexityOptions& options,
                            const PerplexityCallback& callback = {});

}  // namespace sift
