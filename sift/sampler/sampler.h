#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sift {

/// How the next token is picked from the logits. The steps run in the order of the members.
struct SamplingOptions {
  double repetition_penalty = 1;  ///< > 0; logits of tokens seen so far are divided (> 0) or
                                  ///< multiplied (< 0) by it; 1 is off
  double temperature = 0;         ///< ≥ 0; 0 is greedy, whatever follows
  std::int64_t top_k = 0;         ///< keep the k most probable; 0 is off
  double top_p = 1;               ///< (0, 1]: keep the smallest set of at least this probability
  double min_p = 0;               ///< [0, 1]: drop tokens below this share of the most probable
  std::uint64_t seed = 0;

  /// Throws Error (invalid_argument) naming the option and its range.
  void validate() const;
};

struct TokenProbability {
  std::int32_t id = 0;
  double log_probability = 0;  ///< natural logarithm, of the model's softmax before any option
};

struct SampledToken {
  TokenProbability token;
  std::vector<TokenProbability> top;  ///< the `logprobs` most probable, best first
};

/// Picks tokens of one request. Ties go to the lowest id.
class Sampler {
 public:
  /// `stream` separates requests that share a seed.
  Sampler(const SamplingOptions& options, std::uint64_t stream);

  /// `seen`: prompt and generated tokens so far, for the repetition penalty. `step` counts
  /// generated tokens from 0. REQUIRES: logits are finite.
  SampledToken sample(std::span<const float> logits, std::span<const std::int32_t> seen,
                      std::uint64_t step, int logprobs) const;

 private:
  std::int32_t pick(std::vector<float>& logits, std::uint64_t step) const;

  SamplingOptions options_;
  std::uint64_t stream_;
};

/// ln Σ exp(logits), in double.
double log_sum_exp(std::span<const float> logits);

}  // namespace sift
