#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sift/tokenizer/chat_template.h"

namespace sift {

/// How a sample's turns become a prompt.
enum class PromptFormat : std::uint8_t {
  chat,   ///< by the model's chat template, worked examples as turns of their own
  plain,  ///< as text that the model continues, without the template
};
std::string_view name(PromptFormat format);

/// A downstream task, its data apart: what prompts look like and how answers are generated.
struct TaskDefinition {
  std::string_view name;  ///< "gsm8k"
  std::string_view description;
  PromptFormat format = PromptFormat::chat;
  std::int64_t shots = 0;       ///< worked examples before each question
  bool takes_examples = false;  ///< whether `shots` may be other than 0
  std::int64_t max_tokens = 0;  ///< new tokens at most
  std::int64_t max_warmup = 0;  ///< longest warm-up that answers of this length bear; 0: any
  double temperature = 0;       ///< 0 is greedy
  double top_p = 1;
  std::vector<std::string> stop = {};  ///< an answer ends before the first of these
};

/// Every task, in the order of help. IFEval, MATH-Hard and GSM8K are those of lm-eval (`ifeval`,
/// `leaderboard_math_hard`, `gsm8k`), LongGenBench that of Wu et al. (arXiv 2409.02076).
std::span<const TaskDefinition> task_definitions();

/// Throws Error (invalid_argument) naming the known tasks.
const TaskDefinition& find_task(std::string_view name);

/// A file that was read.
struct TaskFile {
  std::string name;  ///< for messages
  std::string text;
};

/// One question.
struct TaskSample {
  std::int64_t index = 0;          ///< of the object in the file, from 0
  std::vector<ChatMessage> turns;  ///< user and assistant in turns, the last one the user's
  std::string document;            ///< the object as the file has it, as compact JSON
};

/// A task with its data.
struct Task {
  const TaskDefinition* definition = nullptr;
  std::vector<TaskSample> samples;  ///< in the order of the file, at least one
  std::int64_t shots = 0;           ///< worked examples that are part of every sample's turns
  std::uint64_t data_hash = 0;      ///< of the data and of the examples in use (FNV-1a)
};

/// Reads the data of a task: JSON lines, or one JSON array of objects. The first `shots` objects of
/// `examples` stand before every question; MATH-Hard takes what is "Level 5", as lm-eval does.
/// Throws Error: bad_file naming file, line and key for what is not data of this task;
/// invalid_argument for examples that the task does not take, or fewer than `shots`.
Task load_task(const TaskDefinition& definition, const TaskFile& data, std::int64_t shots = 0,
               const TaskFile& examples = {});

/// Which samples run, in which order: the first `limit` (0: all) of a shuffle of 0 … samples − 1
/// that `seed` determines, so that a larger limit goes on where a smaller one ended. Throws Error
/// (invalid_argument) for a limit beyond the samples.
std::vector<std::int64_t> sample_order(const Task& task, std::int64_t limit, std::uint64_t seed);

}  // namespace sift
