#include "sift/engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "sift/core/error.h"
#include "sift/core/threads.h"
#include "sift/engine/stop_strings.h"
#include "sift/model/model.h"
#include "sift/tokenizer/stream_decoder.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/tokenizer/tokenizer_from_gguf.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<Backend> make_backend(const EngineOptions& options, const ModelShape& shape) {
  if (options.backend == BackendKind::reference) return make_reference_backend(shape);
  return make_cpu_backend(shape, {options.compute, options.threads});
}

EngineOptions check_threads(const EngineOptions& options) {
  if (options.threads < 1 || options.threads > kMaximumThreads) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} threads asked for, expected 1 to {}",
                                                         options.threads, kMaximumThreads));
  }
  return options;
}

std::int64_t choose_context(std::int64_t asked, std::int64_t trained) {
  if (asked == 0) return trained;
  if (asked < 1 || asked > trained) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("context of {} tokens asked for, expected 1 to the {} that the model "
                            "was made for",
                            asked, trained));
  }
  return asked;
}

/// Why a sifting policy ran all of its `rows` generated rows dense; empty when it did not.
std::string dense_notice(const AttentionState& state, const AttentionStatistics& statistics,
                         std::int64_t rows) {
  const Policy& policy = state.policy();
  if (is_dense(policy) || statistics.sparse_steps > 0) return {};
  if (rows == 0) return "no step ran sparse: prompts run dense, and no token was run after it";
  if (policy.select == Select::above && state.calibrate() == Calibrate::decode &&
      rows <= policy.warmup) {
    return fmt::format(
        "no step ran sparse: the warm-up takes the first {} generated tokens, and {} were run",
        policy.warmup, rows);
  }
  if (policy.dense_rows > 0) {
    return fmt::format("no step ran sparse: dense_rows={} keeps contexts of that size dense",
                       policy.dense_rows);
  }
  return "no step ran sparse: gate=auto found dense attention faster at this size";
}

/// Collects what a generation says: tokens to characters, characters to text before stop strings.
class TextOutput {
 public:
  TextOutput(const Tokenizer& tokenizer, const GenerationRequest& request)
      : decoder_(tokenizer), stops_(request.stop) {}

  std::string push(std::int32_t id) { return keep(stops_.push(decoder_.push(id))); }
  /// The rest, once no more tokens come.
  std::string flush() {
    if (stops_.stopped()) return {};
    std::string rest = stops_.push(decoder_.finish());
    if (!stops_.stopped()) rest += stops_.flush();
    return keep(std::move(rest));
  }
  bool stopped() const { return stops_.stopped(); }
  std::string text() const { return text_; }

 private:
  std::string keep(std::string piece) {
    text_ += piece;
    return piece;
  }

  StreamDecoder decoder_;
  StopStrings stops_;
  std::string text_;
};

}  // namespace

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::interrupted:
      return "interrupted";
  }
  return "unknown";
}

// A warm-up that no sequence can outlast is a mistake; one that a sequence happens not to outlast
// is told in the result's notice.
void check_policy(const Policy& policy, std::int64_t context) {
  if (policy.select == Select::above && policy.warmup >= context) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("option 'warmup' of attention policy '{}' is {}, expected less than "
                            "the context of {} tokens",
                            policy.name, policy.warmup, context));
  }
}

Engine::Engine(const EngineOptions& options)
    : options_(check_threads(options)), model_(std::make_unique<Model>(options.model_path)) {
  tokenizer_ = std::make_unique<Tokenizer>(tokenizer_from_gguf(model_->metadata()));
  tokenizer_->require_embedding_rows(model_->shape().vocabulary);
  options_.context = choose_context(options.context, model_->config().context_length);
  transformer_ = std::make_unique<Transformer>(
      model_->shape(), model_->weights(), make_backend(options_, model_->shape()),
      [&](const MatrixView& source) { model_->release(source); });
  model_->check_intact();
}

Engine::~Engine() = default;

CacheLayout Engine::cache_layout(const Policy& policy) const {
  const ModelShape& shape = transformer_->shape();
  const bool turns_neighbours = shape.rope.style == RopeStyle::adjacent_pairs;
  return {shape.layers,
          shape.kv_heads,
          shape.head_dim,
          options_.cache_type,
          sidecar_bytes(policy, shape.head_dim),
          turns_neighbours ? ShadowOrder::pairs_parted : ShadowOrder::as_stored};
}

GenerationResult Engine::generate(const GenerationRequest& request, const TokenCallback& callback,
                                  const PromptCallback& prompt_callback) {
  return start_session(request.policy)->generate(request, callback, prompt_callback);
}

std::unique_ptr<Session> Engine::start_session(const Policy& policy) {
  return std::make_unique<Session>(*this, policy);
}

Session::Session(Engine& engine, const Policy& policy)
    : engine_(engine),
      policy_(policy),
      cache_(engine.cache_layout(policy), engine.context()),
      logits_(static_cast<std::size_t>(engine.transformer().shape().vocabulary)) {
  check_policy(policy, engine.context());
  engine.transformer().backend().check_decode(policy);
}

Session::~Session() = default;

void Session::check(const GenerationRequest& request) const {
  const auto vocabulary = engine_.transformer().shape().vocabulary;
  const auto size = static_cast<std::int64_t>(request.prompt.size());
  if (size == 0) {
    throw Error(ErrorKind::invalid_argument, "the prompt is empty, expected at least one token");
  }
  if (size >= engine_.context()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("the prompt has {} tokens, expected fewer than the context of {}", size,
                            engine_.context()));
  }
  for (const std::int32_t id : request.prompt) {
    if (id < 0 || id >= vocabulary) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("token id {} in the prompt, expected 0 to {}", id, vocabulary - 1));
    }
  }
  if (request.max_tokens < 1) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} tokens asked for, expected at least 1", request.max_tokens));
  }
  if (request.logprobs < 0 || request.logprobs > 20) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("logprobs is {}, expected 0 to 20", request.logprobs));
  }
}

/// Gives the sequence's pages back.
void Session::forget() {
  sequence_.reset();
  cached_.clear();
}

void Session::restart(std::int64_t prompt_tokens) {
  forget();
  sequence_ = std::make_unique<Sequence>(cache_, policy_, engine_.transformer().shape().heads);
  sequence_->attention().begin_prompt(prompt_tokens);
}

/// False when the callback ended it.
bool Session::run_prompt(const std::vector<std::int32_t>& prompt, const PromptCallback& callback) {
  const auto size = static_cast<std::int64_t>(prompt.size());
  // A prompt that adds nothing to the cached rows starts afresh: its last row's logits are gone.
  const bool continues = sequence_ != nullptr && cached_.size() < prompt.size() &&
                         std::equal(cached_.begin(), cached_.end(), prompt.begin());
  if (!continues) restart(size);
  Transformer& transformer = engine_.transformer();
  while (sequence_->length() < size) {
    const std::int64_t begin = sequence_->length();
    const std::int64_t end = std::min(size, (begin / kPromptChunk + 1) * kPromptChunk);
    const std::int64_t rows = end - begin;
    sequence_->reserve(rows);
    const Segment segment{sequence_.get(), 0, rows, rows};
    const Batch batch{{prompt.data() + begin, static_cast<std::size_t>(rows)}, {&segment, 1}};
    forward(batch);
    cached_.insert(cached_.end(), prompt.begin() + begin, prompt.begin() + end);
    const std::int64_t newest = rows - 1;
    if (end == size) transformer.logits(batch, {&newest, 1}, logits_);
    if (callback && !callback(end, size)) return false;
  }
  return true;
}

/// A pass that fails leaves some layers' rows and sums behind: the sequence cannot go on.
void Session::forward(const Batch& batch) {
  try {
    engine_.transformer().forward(batch);
  } catch (...) {
    forget();
    throw;
  }
}

void Session::run_token(std::int32_t token) {
  sequence_->reserve(1);
  const Segment segment{sequence_.get(), 0, 1, 0};
  const Batch batch{{&token, 1}, {&segment, 1}, /*decode=*/true};
  forward(batch);
  cached_.push_back(token);
  const std::int64_t row = 0;
  engine_.transformer().logits(batch, {&row, 1}, logits_);
}

GenerationResult Session::generate(const GenerationRequest& request, const TokenCallback& callback,
                                   const PromptCallback& prompt_callback) {
  check(request);
  GenerationResult result;
  result.prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  const Clock::time_point start = Clock::now();
  const bool finished = run_prompt(request.prompt, prompt_callback);
  result.prefill_seconds = seconds_since(start);
  if (finished) {
    run_tokens(request, callback, result);
  } else {
    result.finish_reason = FinishReason::interrupted;
  }
  report(result);
  // Part of a prompt is no conversation to build on: its policy was told of the whole.
  if (!finished) forget();
  engine_.model().check_intact();
  return result;
}

void Session::run_tokens(const GenerationRequest& request, const TokenCallback& callback,
                         GenerationResult& result) {
  const Sampler sampler(request.sampling, requests_++);
  const Tokenizer& tokenizer = engine_.tokenizer();
  TextOutput output(tokenizer, request);
  std::vector<std::int32_t> seen = request.prompt;
  const Clock::time_point start = Clock::now();
  const auto room = engine_.context() - result.prompt_tokens;
  const std::int64_t limit = std::min(request.max_tokens, room);
  while (true) {
    const auto step = static_cast<std::uint64_t>(result.generated_tokens);
    GeneratedToken token;
    token.sample = sampler.sample(logits_, seen, step, request.logprobs);
    token.id = token.sample.token.id;
    result.generated_tokens += 1;
    if (tokenizer.ends_generation(token.id) && !request.ignore_end_of_text) {
      result.finish_reason = FinishReason::stop;
      token.text = output.flush();
      if (callback && !token.text.empty()) callback(token);
      break;
    }
    seen.push_back(token.id);
    result.token_ids.push_back(token.id);
    if (request.logprobs > 0) result.samples.push_back(token.sample);
    token.text = output.push(token.id);
    const bool last = output.stopped() || result.generated_tokens == limit;
    if (last) token.text += output.flush();
    const bool go_on = !callback || callback(token);
    if (last || !go_on) {
      result.finish_reason = output.stopped() ? FinishReason::stop
                             : last           ? FinishReason::length
                                              : FinishReason::interrupted;
      break;
    }
    run_token(token.id);
  }
  output.flush();
  result.decode_seconds = seconds_since(start);
  result.text = output.text();
}

/// What attention did.
void Session::report(GenerationResult& result) const {
  const auto row_bytes = static_cast<std::int64_t>(cache_.layout().row_bytes());
  const AttentionState& attention = sequence_->attention();
  result.attention = attention.totals(row_bytes);
  result.notice = attention.notice();
  if (result.notice.empty() && result.generated_tokens > 0) {
    result.notice = dense_notice(attention, result.attention.summary(), sequence_->generated());
  }
}

}  // namespace sift
