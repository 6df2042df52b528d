#include "sift/eval/task_run.h"

#include <fmt/format.h>

#include "sift/attention/calibration.h"
#include "sift/core/error.h"
#include "sift/engine/chat_prompt.h"
#include "sift/eval/completions.h"
#include "sift/eval/perplexity.h"
#include "sift/sampler/random.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

/// The date that chat templates are told, 2024-07-26: with that of the clock a run could not be
/// repeated on another day.
constexpr std::int64_t kDate = 1'721'952'000;

/// As lm-eval writes few-shot prompts without a chat template.
std::string plain_text(const TaskSample& sample) {
  std::string text;
  for (const ChatMessage& turn : sample.turns) {
    text += turn.role == "assistant" ? " " + turn.content + "\n\n" : turn.content;
  }
  return text;
}

std::uint64_t sample_seed(std::uint64_t seed, std::int64_t index) {
  const auto words = philox(seed, 1, static_cast<std::uint64_t>(index));
  return (std::uint64_t{words[0]} << 32U) | words[1];
}

std::string place(const Task& task, const TaskSample& sample) {
  return fmt::format("sample {} of {}", sample.index + 1, task.definition->name);
}

void check_room(const Engine& engine, const Task& task, const TaskSample& sample,
                std::int64_t prompt_tokens, const TaskOptions& options) {
  if (prompt_tokens + options.max_tokens <= engine.context()) return;
  throw Error(
      ErrorKind::invalid_argument,
      fmt::format("{}: a prompt of {} tokens and {} new ones do not fit the context of {}",
                  place(task, sample), prompt_tokens, options.max_tokens, engine.context()));
}

void check_warmup(const Task& task, const Policy& policy, std::int64_t prompt_tokens) {
  const std::int64_t longest = task.definition->max_warmup;
  if (longest == 0 || policy.select != Select::above || policy.warmup <= longest) return;
  if (calibration(policy, prompt_tokens) != Calibrate::decode) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("warmup is {}, expected at most {}: answers of {} are short",
                          policy.warmup, longest, task.definition->name));
}

TaskPrompt checked_prompt(const Engine& engine, const Task& task, const TaskSample& sample,
                          const TaskOptions& options) {
  TaskPrompt prompt;
  try {
    prompt = task_prompt(engine, sample, options.format);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", place(task, sample), error.what()));
  }
  const auto tokens = static_cast<std::int64_t>(prompt.ids.size());
  check_room(engine, task, sample, tokens, options);
  check_warmup(task, options.policy, tokens);
  return prompt;
}

}  // namespace

TaskOptions task_options(const TaskDefinition& definition, const Policy& policy) {
  TaskOptions options;
  options.policy = policy;
  options.format = definition.format;
  options.max_tokens = definition.max_tokens;
  options.sampling.temperature = definition.temperature;
  options.sampling.top_p = definition.top_p;
  return options;
}

TaskPrompt task_prompt(const Engine& engine, const TaskSample& sample, PromptFormat format) {
  TaskPrompt prompt;
  if (format == PromptFormat::plain) {
    prompt.text = plain_text(sample);
    prompt.ids = engine.tokenizer().encode_prompt(prompt.text, ParseSpecial::no);
    return prompt;
  }
  const ChatTemplate chat_template = read_chat_template(engine);
  const auto segments = render_chat(engine, chat_template, sample.turns, kDate);
  for (const TextSegment& segment : segments) prompt.text += segment.text;
  prompt.ids = engine.tokenizer().encode(segments);
  return prompt;
}

TaskCompletion run_sample(Engine& engine, const Task& task, const TaskSample& sample,
                          const TaskOptions& options, const TokenCallback& callback,
                          const PromptCallback& prompt_callback) {
  TaskPrompt prompt = checked_prompt(engine, task, sample, options);
  GenerationRequest request;
  request.prompt = std::move(prompt.ids);
  request.policy = evaluation_policy(options.policy);
  request.sampling = options.sampling;
  request.sampling.seed = sample_seed(options.sampling.seed, sample.index);
  request.max_tokens = options.max_tokens;
  request.stop = task.definition->stop;
  return {sample.index, std::move(prompt.text),
          engine.generate(request, callback, prompt_callback)};
}

void check_samples(const Engine& engine, const Task& task, std::span<const std::int64_t> order,
                   const TaskOptions& options) {
  check_policy(options.policy, engine.context());
  engine.transformer().backend().check_decode(options.policy);
  for (const std::int64_t position : order) {
    checked_prompt(engine, task, task.samples[static_cast<std::size_t>(position)], options);
  }
}

bool run_task(Engine& engine, const Task& task, std::span<const std::int64_t> order,
              const TaskOptions& options, CompletionsFile& file, const TaskCallback& callback) {
  check_samples(engine, task, order, options);
  TaskProgress progress{.finished = file.size(), .total = static_cast<std::int64_t>(order.size())};
  const auto go_on = [&] { return !callback || callback(progress); };
  for (const std::int64_t position : order) {
    const TaskSample& sample = task.samples[static_cast<std::size_t>(position)];
    if (file.holds(sample.index)) continue;
    progress.tokens = 0;
    if (!go_on()) return false;
    const auto on_token = [&](const GeneratedToken&) {
      progress.tokens += 1;
      return go_on();
    };
    const auto on_prompt = [&](std::int64_t, std::int64_t) { return go_on(); };
    const TaskCompletion completion =
        run_sample(engine, task, sample, options, on_token, on_prompt);
    if (completion.generation.finish_reason == FinishReason::interrupted) return false;
    file.add(sample, completion, evaluation_policy(options.policy));
    progress.finished += 1;
  }
  progress.tokens = 0;
  go_on();
  return true;
}

}  // namespace sift
