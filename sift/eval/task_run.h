#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "sift/attention/policy.h"
#include "sift/engine/engine.h"
#include "sift/eval/task.h"

namespace sift {

class CompletionsFile;

/// How samples are run.
struct TaskOptions {
  Policy policy;  ///< runs as evaluation_policy() has it
  PromptFormat format = PromptFormat::chat;
  std::int64_t max_tokens = 0;
  SamplingOptions sampling;  ///< its seed is the run's; every sample draws numbers of its own
};

/// The task's own settings, with a policy.
TaskOptions task_options(const TaskDefinition& definition, const Policy& policy);

/// What a sample's prompt is.
struct TaskPrompt {
  std::string text;  ///< with the text of special tokens
  std::vector<std::int32_t> ids;
};

/// Throws Error: bad_file for `chat` where the model has no chat template; invalid_argument for
/// text that it cannot take.
TaskPrompt task_prompt(const Engine& engine, const TaskSample& sample, PromptFormat format);

struct TaskCompletion {
  std::int64_t index = 0;  ///< TaskSample::index
  std::string prompt;
  GenerationResult generation;  ///< text, tokens, finish reason, statistics, notice
};

/// Runs one sample. End-of-text is never suppressed. Throws Error (invalid_argument) where prompt
/// and new tokens do not fit the context, or the policy's warm-up is longer than the task bears.
TaskCompletion run_sample(Engine& engine, const Task& task, const TaskSample& sample,
                          const TaskOptions& options, const TokenCallback& callback = {},
                          const PromptCallback& prompt_callback = {});

/// Where a run is.
struct TaskProgress {
  std::int64_t finished = 0;  ///< samples that the file holds
  std::int64_t total = 0;     ///< samples of the run
  std::int64_t tokens = 0;    ///< generated of the sample at hand
};

/// Called before every sample, at every token and at the end; return false to stop there: the
/// sample at hand is then left out.
using TaskCallback = std::function<bool(const TaskProgress& progress)>;

/// Throws Error as run_sample() does, for the first sample of `order` that cannot run.
void check_samples(const Engine& engine, const Task& task, std::span<const std::int64_t> order,
                   const TaskOptions& options);

/// Runs those samples of `order` (indices into task.samples) that `file` does not hold, one after
/// another, and adds each to it. False when the callback ended it. Throws Error as check_samples()
/// does, before anything runs.
bool run_task(Engine& engine, const Task& task, std::span<const std::int64_t> order,
              const TaskOptions& options, CompletionsFile& file, const TaskCallback& callback = {});

}  // namespace sift
