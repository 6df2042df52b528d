#include "sift/eval/study_tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>

#include "sift/core/error.h"
#include "sift/eval/completions.h"
#include "sift/eval/perplexity.h"
#include "sift/eval/task.h"
#include "sift/eval/task_run.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

/// A task as the study runs it.
struct TaskLine {
  std::string_view task;
  std::string_view data;
  std::int64_t warmup;  ///< of the paper's variant: short answers bear only a short one
  std::int64_t samples;
  std::int64_t few;  ///< if quick; 0 leaves the task out
};

constexpr std::array<TaskLine, 3> kTasks = {{
    {"gsm8k", "gsm8k/test.jsonl", 32, 64, 32},
    {"ifeval", "ifeval/input_data.jsonl", 128, 64, 0},
    {"longgenbench", "longgenbench/Dataset_short.json", 128, 64, 0},
}};

void add(StudyTasks& tasks, const TaskLine& line, const std::string& policy, std::string series,
         std::int64_t samples) {
  try {
    parse_policy(policy);
    tasks.tasks.push_back(
        {std::string(line.task), std::string(line.data), policy, std::move(series), samples});
  } catch (const Error& error) {
    tasks.left_out.push_back({policy, error.what()});
  }
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    throw Error(ErrorKind::input_output, fmt::format("cannot read {}", path));
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

/// "gsm8k-sift-paper-tau-0.5.jsonl".
std::string file_name(const StudyTask& task) {
  std::string name = task.task + "-" + task.policy;
  std::ranges::replace_if(
      name, [](char c) { return c == ':' || c == ',' || c == '='; }, '-');
  return name + ".jsonl";
}

nlohmann::ordered_json settings_of(const StudyTask& task, const Task& loaded,
                                   const TaskOptions& options,
                                   const nlohmann::ordered_json& model) {
  nlohmann::ordered_json settings = {{"task", task.task},
                                     {"data_hash", fmt::format("{:016x}", loaded.data_hash)},
                                     {"shots", loaded.shots},
                                     {"attention", task.policy},
                                     {"series", task.series},
                                     {"format", name(options.format)},
                                     {"max_tokens", options.max_tokens},
                                     {"temperature", options.sampling.temperature},
                                     {"top_p", options.sampling.top_p},
                                     {"seed", options.sampling.seed},
                                     {"limit", task.samples}};
  settings.update(model);
  return settings;
}

}  // namespace

StudyTasks paper_tasks(const StudyPlan& plan) {
  const std::vector<double> levels =
      plan.quick ? std::vector{0.5, 0.875} : std::vector{0.5, 0.75, 0.875, 0.95};
  const std::vector<double> shares =
      plan.quick ? std::vector{0.5, 0.125} : std::vector{0.5, 0.25, 0.125, 0.05};
  StudyTasks tasks;
  for (const TaskLine& line : kTasks) {
    const std::int64_t samples = plan.quick ? line.few : line.samples;
    if (samples == 0) continue;
    add(tasks, line, "full", "Full", samples);
    for (const double level : levels) {
      add(tasks, line, fmt::format("sift:paper,tau={},warmup={}", level, line.warmup),
          fmt::format("Sift, w = {}", line.warmup), samples);
    }
    for (const double share : shares) {
      add(tasks, line, fmt::format("topk:keep={}", share), "Top-k", samples);
    }
  }
  return tasks;
}

bool run_study_task(Engine& engine, const StudyTask& task, const std::string& data_folder,
                    const std::string& folder, const nlohmann::ordered_json& model,
                    const std::function<bool()>& proceed) {
  const std::string data = data_folder + "/" + task.data;
  const Task loaded = load_task(find_task(task.task), {data, read_file(data)});
  const std::vector<std::int64_t> order = sample_order(loaded, task.samples, /*seed=*/0);
  TaskOptions options =
      task_options(*loaded.definition, evaluation_policy(parse_policy(task.policy)));
  if (engine.tokenizer().chat_template().empty()) options.format = PromptFormat::plain;
  const std::string completions = folder + "/completions";
  std::error_code error;
  std::filesystem::create_directories(completions, error);
  if (error) {
    throw Error(ErrorKind::input_output, fmt::format("cannot make the folder {}", completions));
  }
  CompletionsFile file(completions + "/" + file_name(task),
                       settings_of(task, loaded, options, model).dump(), "{}");
  return run_task(engine, loaded, order, options, file,
                  [&](const TaskProgress&) { return proceed(); });
}

}  // namespace sift
