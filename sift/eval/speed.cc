#include "sift/eval/speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "sift/core/error.h"
#include "sift/model/model.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

using Clock = std::chrono::steady_clock;

void check_length(const Engine& engine, std::span<const std::int32_t> text, std::int64_t needed) {
  if (needed > engine.context()) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("{} tokens are needed, but the context has {}", needed, engine.context()));
  }
  if (needed > static_cast<std::int64_t>(text.size())) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} tokens are needed, but the text has {}", needed, text.size()));
  }
}

/// How far a measurement is; knows whether somebody wants it to stop.
class Advance {
 public:
  Advance(std::int64_t total, const SpeedCallback& callback) : total_(total), callback_(callback) {}

  /// False to stop.
  bool add(std::int64_t tokens) {
    done_ += tokens;
    if (callback_ && !callback_(done_, total_)) stopped_ = true;
    return !stopped_;
  }
  bool stopped() const { return stopped_; }

 private:
  std::int64_t done_ = 0;
  std::int64_t total_;
  const SpeedCallback& callback_;
  bool stopped_ = false;
};

/// A sequence that a text is fed to, logits of the newest row included, as generation does it.
class Feed {
 public:
  Feed(Engine& engine, KvCache& cache, const Policy& policy, std::span<const std::int32_t> text,
       std::int64_t prompt)
      : transformer_(engine.transformer()),
        text_(text),
        sequence_(cache, policy, transformer_.shape().heads),
        logits_(static_cast<std::size_t>(transformer_.shape().vocabulary)) {
    sequence_.attention().begin_prompt(prompt);
  }

  void prompt(std::int64_t length, Advance& advance) {
    while (sequence_.length() < length && !advance.stopped()) {
      const std::int64_t begin = sequence_.length();
      const std::int64_t end = std::min(length, (begin / kPromptChunk + 1) * kPromptChunk);
      run(end - begin, end - begin, /*decode=*/false, end == length);
      advance.add(end - begin);
    }
  }

  void decode(std::int64_t tokens) {
    for (std::int64_t i = 0; i < tokens; ++i) run(1, 0, /*decode=*/true, true);
  }

  const AttentionState& attention() const { return sequence_.attention(); }

 private:
  void run(std::int64_t rows, std::int64_t prompt_rows, bool decode, bool logits) {
    const std::int64_t begin = sequence_.length();
    sequence_.reserve(rows);
    const Segment segment{&sequence_, 0, rows, prompt_rows};
    const Batch batch{
        text_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)),
        {&segment, 1},
        decode};
    transformer_.forward(batch);
    const std::int64_t newest = rows - 1;
    if (logits) transformer_.logits(batch, {&newest, 1}, logits_);
  }

  Transformer& transformer_;
  std::span<const std::int32_t> text_;
  Sequence sequence_;
  std::vector<float> logits_;
};

double rate(std::int64_t tokens, Clock::time_point start) {
  return static_cast<double>(tokens) / std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double SpeedResult::median() const {
  std::vector<double> sorted = tokens_per_second;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double SpeedResult::minimum() const {
  return *std::min_element(tokens_per_second.begin(), tokens_per_second.end());
}

double SpeedResult::maximum() const {
  return *std::max_element(tokens_per_second.begin(), tokens_per_second.end());
}

SpeedResult decode_speed(Engine& engine, std::span<const std::int32_t> text, const Policy& policy,
                         std::int64_t depth, std::int64_t tokens, std::int64_t repeat,
                         const SpeedCallback& callback) {
  constexpr std::int64_t kUntimed = 2;
  engine.transformer().backend().check_decode(policy);
  const bool calibrates =
      policy.select == Select::above && calibration(policy, depth) == Calibrate::decode;
  const std::int64_t warmup = calibrates ? policy.warmup : 0;
  const std::int64_t prompt = std::max<std::int64_t>(depth - warmup, 1);
  const std::int64_t before = std::max(depth, prompt + warmup);
  check_length(engine, text, before + kUntimed + tokens * repeat);
  KvCache cache(engine.cache_layout(policy), engine.context());
  Feed feed(engine, cache, policy, text, prompt);
  Advance advance(before + kUntimed + tokens * repeat, callback);
  feed.prompt(prompt, advance);
  if (!advance.stopped()) {
    feed.decode(before - prompt + kUntimed);
    advance.add(before - prompt + kUntimed);
  }
  SpeedResult result{before, tokens, {}, {}, {}};
  for (std::int64_t i = 0; i < repeat && !advance.stopped(); ++i) {
    const Clock::time_point start = Clock::now();
    feed.decode(tokens);
    result.tokens_per_second.push_back(rate(tokens, start));
    advance.add(tokens);
  }
  result.attention = feed.attention().totals(static_cast<std::int64_t>(cache.layout().row_bytes()));
  result.notice = feed.attention().notice();
  engine.model().check_intact();
  return result;
}

SpeedResult prefill_speed(Engine& engine, std::span<const std::int32_t> text, const Policy& policy,
                          std::int64_t tokens, std::int64_t repeat, const SpeedCallback& callback) {
  check_length(engine, text, tokens);
  KvCache cache(engine.cache_layout(policy), tokens);
  SpeedResult result{0, tokens, {}, {}, {}};
  Advance advance(tokens * (repeat + 1), callback);
  for (std::int64_t i = 0; i <= repeat; ++i) {
    Feed feed(engine, cache, policy, text, tokens);
    const Clock::time_point start = Clock::now();
    feed.prompt(tokens, advance);
    if (advance.stopped()) break;
    // The first one pays for page faults and compiled primitives.
    if (i > 0) result.tokens_per_second.push_back(rate(tokens, start));
  }
  engine.model().check_intact();
  result.attention.dense_policy = is_dense(policy);
  return result;
}

}  // namespace sift
