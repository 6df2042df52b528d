#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sift/attention/policy.h"
#include "sift/attention/statistics.h"
#include "sift/core/dtype.h"
#include "sift/kernels/backend.h"
#include "sift/sampler/sampler.h"

namespace sift {

class Model;
class Tokenizer;
class Transformer;

enum class BackendKind : std::uint8_t { cpu, reference };

struct EngineOptions {
  std::string model_path;  ///< a GGUF file
  BackendKind backend = BackendKind::cpu;
  Compute compute = Compute::q8;
  DType cache_type = DType::f16;
  int threads = 1;
  std::int64_t context = 0;  ///< tokens that fit into a sequence; 0 is what the model was made for
};

struct GenerationRequest {
  std::vector<std::int32_t> prompt;  ///< token ids, at least one
  Policy policy;
  SamplingOptions sampling;
  std::int64_t max_tokens = 256;
  std::vector<std::string> stop;  ///< generation ends before the first of these strings
  bool ignore_end_of_text = false;
  int logprobs = 0;  ///< most probable tokens to report per step, 0 to 20
};

/// What a token callback gets.
struct GeneratedToken {
  std::int32_t id = 0;
  std::string text;     ///< whole characters that became certain with this token; may be empty
  SampledToken sample;  ///< log probabilities, when asked for
};

enum class FinishReason : std::uint8_t { stop, length, interrupted };
std::string_view name(FinishReason reason);

struct GenerationResult {
  std::string text;
  std::vector<std::int32_t> token_ids;  ///< without the end token
  std::vector<SampledToken> samples;    ///< one per token id, when log probabilities were asked for
  FinishReason finish_reason = FinishReason::length;
  std::int64_t prompt_tokens = 0;     ///< of this request, cached ones included
  std::int64_t generated_tokens = 0;  ///< sampled tokens, the end token included
  double prefill_seconds = 0;         ///< until the first token was picked
  double decode_seconds = 0;          ///< from then on
  AttentionTotals attention;
  std::string notice;  ///< what ran otherwise than asked, empty if nothing
};

/// Called with every token, and with the end token where text was held back for it; return false to
/// end generation (`interrupted`).
using TokenCallback = std::function<bool(const GeneratedToken&)>;

/// Called after every piece of a prompt with the tokens run so far, cached ones included, and those
/// of the whole prompt; return false to end there (`interrupted`, without any text).
using PromptCallback = std::function<bool(std::int64_t done, std::int64_t total)>;

class Session;

/// A loaded model that generates. One generation at a time.
class Engine {
 public:
  /// Opens the model, checks it and packs its weights. Throws Error: bad_file for a model that is
  /// not what it claims to be, invalid_argument for options out of range.
  explicit Engine(const EngineOptions& options);
  ~Engine();

  /// One prompt, one answer, in a cache of its own.
  GenerationResult generate(const GenerationRequest& request, const TokenCallback& callback = {},
                            const PromptCallback& prompt_callback = {});

  /// A conversation whose cache stays between generations.
  std::unique_ptr<Session> start_session(const Policy& policy);

  const EngineOptions& options() const { return options_; }
  const Model& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  Transformer& transformer() { return *transformer_; }
  const Transformer& transformer() const { return *transformer_; }
  std::int64_t context() const { return options_.context; }
  /// Layout of a cache for sequences under `policy`: with its sidecars. Throws Error
  /// (invalid_argument) where the model's head dimension does not suit them.
  CacheLayout cache_layout(const Policy& policy = {}) const;

 private:
  EngineOptions options_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Transformer> transformer_;
};

/// One sequence whose cached rows later requests build on.
class Session {
 public:
  /// REQUIRES: the engine outlives the session.
  Session(Engine& engine, const Policy& policy);
  ~Session();

  /// Continues `request.prompt`, which holds the whole conversation: what of it is cached already
  /// is not run again. A prompt that departs from the cached rows, or adds nothing to them, starts
  /// afresh.
  /// `request.policy` is ignored: the session's policy holds. Throws Error (invalid_argument) when
  /// the prompt is empty, holds an unknown id, or does not fit the context.
  GenerationResult generate(const GenerationRequest& request, const TokenCallback& callback = {},
                            const PromptCallback& prompt_callback = {});

 private:
  void check(const GenerationRequest& request) const;
  void restart(std::int64_t prompt_tokens);
  void forget();
  bool run_prompt(const std::vector<std::int32_t>& prompt, const PromptCallback& callback);
  void run_tokens(const GenerationRequest& request, const TokenCallback& callback,
                  GenerationResult& result);
  void report(GenerationResult& result) const;
  void forward(const Batch& batch);
  void run_token(std::int32_t token);

  Engine& engine_;
  Policy policy_;
  KvCache cache_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<std::int32_t> cached_;  ///< tokens whose rows are cached
  std::vector<float> logits_;         ///< [vocabulary] of the newest row
  std::uint64_t requests_ = 0;        ///< generations so far: the random stream
};

/// Throws Error (invalid_argument) when no sequence of `context` tokens can outlast the policy's
/// warm-up.
void check_policy(const Policy& policy, std::int64_t context);

/// Prompt rows that one forward pass takes.
inline constexpr std::int64_t kPromptChunk = 1024;

}  // namespace sift
