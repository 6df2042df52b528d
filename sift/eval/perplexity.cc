#include "sift/eval/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "sift/core/error.h"
#include "sift/model/model.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

/// Rows whose logits are held at once.
constexpr std::int64_t kLogitRows = 128;

/// Mean and spread of negative log likelihoods.
struct LikelihoodSum {
  double sum = 0;
  double squares = 0;
  std::int64_t count = 0;

  void add(double nll) {
    sum += nll;
    squares += nll * nll;
    count += 1;
  }
};

std::int64_t first_scored_row(const PerplexityOptions& options) {
  switch (options.score) {
    case Score::all:
      return 0;
    case Score::second_half:
      return options.context / 2;
    case Score::after_prompt:
      return options.prompt_tokens;
  }
  return 0;
}

void check_range(std::string_view what, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is {}, expected {} to {}", what, value, low, high));
  }
}

std::int64_t check(const Engine& engine, std::int64_t tokens, const PerplexityOptions& options) {
  if (options.path == EvaluationPath::decode) {
    engine.transformer().backend().check_decode(options.policy);
  }
  check_range("context", options.context, 2, engine.context());
  check_range("prompt tokens", options.prompt_tokens, 0, options.context - 2);
  if (options.policy.select == Select::above &&
      calibration(options.policy, options.prompt_tokens) == Calibrate::decode &&
      fewest_warmup_rows(options.policy) >= options.context - options.prompt_tokens) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("warmup is {}, expected less than the {} rows of a window after its "
                    "prompt",
                    fewest_warmup_rows(options.policy), options.context - options.prompt_tokens));
  }
  const std::int64_t available = tokens / options.context;
  const std::int64_t windows = options.windows == 0 ? available : options.windows;
  if (available == 0 || windows > available || windows < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} windows of {} tokens asked for, but the text has {} tokens, enough "
                            "for {}",
                            options.windows, options.context, tokens, available));
  }
  return windows;
}

/// One window: its tokens run through the model, the scored rows added to a sum.
class Window {
 public:
  Window(Engine& engine, KvCache& cache, const PerplexityOptions& options,
         std::vector<std::int32_t> tokens, LikelihoodSum& likelihood)
      : transformer_(engine.transformer()),
        options_(options),
        tokens_(std::move(tokens)),
        sequence_(cache, evaluation_policy(options.policy), transformer_.shape().heads),
        likelihood_(likelihood) {
    sequence_.attention().begin_prompt(options.prompt_tokens);
  }

  /// `go_on` is asked after every pass but the last; false when it ended the window.
  template <class GoOn>
  bool run(const GoOn& go_on) {
    const bool step_by_step = options_.path == EvaluationPath::decode;
    const std::int64_t prefilled = step_by_step ? options_.prompt_tokens : options_.context;
    while (true) {
      const std::int64_t begin = sequence_.length();
      if (begin < prefilled) {
        const std::int64_t chunk_end = (begin / kPromptChunk + 1) * kPromptChunk;
        run_rows(std::min({prefilled, chunk_end, last_settled()}) - begin, false);
      } else {
        run_rows(1, true);
      }
      if (sequence_.length() == options_.context) return true;
      if (!go_on(sequence_.length())) return false;
    }
  }

  const AttentionState& attention() const { return sequence_.attention(); }

 private:
  /// Rows of the window whose mode is known before any of them runs.
  std::int64_t last_settled() const {
    const std::int64_t generated = sequence_.attention().last_settled_row();
    return options_.prompt_tokens + std::min(generated, options_.context);
  }

  void run_rows(std::int64_t rows, bool decode) {
    const std::int64_t begin = sequence_.length();
    sequence_.reserve(rows);
    const std::int64_t prompt_rows =
        std::clamp(options_.prompt_tokens - begin, std::int64_t{0}, rows);
    const Segment segment{&sequence_, 0, rows, prompt_rows};
    const Batch batch{
        {tokens_.data() + begin, static_cast<std::size_t>(rows)}, {&segment, 1}, decode};
    transformer_.forward(batch);
    const std::int64_t last = std::min(begin + rows, options_.context - 1);
    for (std::int64_t row = std::max(begin, first_scored_row(options_)); row < last;) {
      const std::int64_t end = std::min(last, row + kLogitRows);
      score(batch, begin, row, end);
      row = end;
    }
  }

  void score(const Batch& batch, std::int64_t batch_begin, std::int64_t begin, std::int64_t end) {
    const auto vocabulary = static_cast<std::size_t>(transformer_.shape().vocabulary);
    std::vector<std::int64_t> rows;
    for (std::int64_t row = begin; row < end; ++row) rows.push_back(row - batch_begin);
    logits_.resize(rows.size() * vocabulary);
    transformer_.logits(batch, rows, logits_);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::span<const float> row(logits_.data() + i * vocabulary, vocabulary);
      const std::int32_t target = tokens_[static_cast<std::size_t>(begin) + i + 1];
      likelihood_.add(log_sum_exp(row) - row[static_cast<std::size_t>(target)]);
    }
  }

  Transformer& transformer_;
  const PerplexityOptions& options_;
  std::vector<std::int32_t> tokens_;
  Sequence sequence_;
  LikelihoodSum& likelihood_;
  std::vector<float> logits_;  // [rows, vocabulary]
};

void summarise(const LikelihoodSum& likelihood, PerplexityResult& result) {
  const auto count = static_cast<double>(likelihood.count);
  const double mean = likelihood.sum / count;
  const double variance = std::max(0.0, likelihood.squares / count - mean * mean);
  result.perplexity = std::exp(mean);
  result.standard_error =
      likelihood.count > 1 ? result.perplexity * std::sqrt(variance / (count - 1)) : 0;
  result.scored_tokens = likelihood.count;
}

}  // namespace

Policy evaluation_policy(Policy policy) {
  policy.gate = Gate::off;
  policy.name = policy_name(policy);
  return policy;
}

PerplexityResult perplexity(Engine& engine, std::span<const std::int32_t> tokens,
                            const PerplexityOptions& options, const PerplexityCallback& callback) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t windows = check(engine, static_cast<std::int64_t>(tokens.size()), options);
  KvCache cache(engine.cache_layout(options.policy), options.context);
  const auto row_bytes = static_cast<std::int64_t>(cache.layout().row_bytes());
  LikelihoodSum likelihood;
  PerplexityResult result;
  for (std::int64_t index = 0; index < windows; ++index) {
    const auto first = tokens.begin() + index * options.context;
    std::vector<std::int32_t> window_tokens(first, first + options.context);
    const Tokenizer& tokenizer = engine.tokenizer();
    if (tokenizer.adds_bos() && tokenizer.bos_id()) window_tokens[0] = *tokenizer.bos_id();
    LikelihoodSum with_window = likelihood;
    Window window(engine, cache, options, std::move(window_tokens), with_window);
    const bool whole = window.run([&](std::int64_t rows) {
      return !callback || callback(result, index * options.context + rows);
    });
    engine.model().check_intact();
    if (!whole) {
      result.interrupted = true;
      break;
    }
    likelihood = with_window;
    const AttentionTotals totals = window.attention().totals(row_bytes);
    if (index == 0) {
      result.attention = totals;
    } else {
      result.attention += totals;
    }
    result.notice = window.attention().notice();
    result.windows = index + 1;
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    summarise(likelihood, result);
    if (callback && !callback(result, result.windows * options.context) && index + 1 < windows) {
      result.interrupted = true;
      break;
    }
  }
  return result;
}

}  // namespace sift
