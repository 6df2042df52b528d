#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "sift/attention/policy.h"
#include "sift/attention/statistics.h"
#include "sift/engine/engine.h"

namespace sift {

/// Tokens per second of equal pieces of work.
struct SpeedResult {
  std::int64_t depth = 0;                 ///< tokens cached before the first piece
  std::int64_t tokens = 0;                ///< tokens of one piece
  std::vector<double> tokens_per_second;  ///< one per repetition, in order of time
  AttentionTotals attention;  ///< of all generated rows, those of the untimed warm-up included
  std::string notice;         ///< what ran otherwise than asked, empty if nothing

  double median() const;
  double minimum() const;
  double maximum() const;
};

/// Called with the tokens run so far and those to run, after every piece of a prompt and every
/// repetition; return false to stop there. Repetitions that were not finished are left out.
using SpeedCallback = std::function<bool(std::int64_t done, std::int64_t total)>;

/// Speed of token-by-token generation behind `depth` cached tokens: `text` is fed token by token,
/// so that its own continuation, not the model's, fills the cache. Pieces follow each other. With
/// depth 0 a single token is the prompt. A policy that calibrates while decoding first runs its
/// warm-up untimed. Throws Error (invalid_argument) when the text or the context is too short.
SpeedResult decode_speed(Engine& engine, std::span<const std::int32_t> text, const Policy& policy,
                         std::int64_t depth, std::int64_t tokens, std::int64_t repeat,
                         const SpeedCallback& callback = {});

/// Speed of processing a prompt of `tokens` tokens, each time in an empty cache, one untimed
/// repetition first.
SpeedResult prefill_speed(Engine& engine, std::span<const std::int32_t> text, const Policy& policy,
                          std::int64_t tokens, std::int64_t repeat,
                          const SpeedCallback& callback = {});

}  // namespace sift
