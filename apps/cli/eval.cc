#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <limits>
#include <memory>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/log.h"
#include "apps/cli/progress.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/core/version.h"
#include "sift/eval/completions.h"
#include "sift/eval/perplexity.h"
#include "sift/eval/task.h"
#include "sift/eval/task_run.h"

namespace sift::cli {
namespace {

using Json = nlohmann::ordered_json;

/// An option that was not given: the task has its own.
constexpr std::int64_t kOfTask = -1;

std::string file_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

std::string task_names() {
  std::vector<std::string_view> names;
  for (const TaskDefinition& task : task_definitions()) names.push_back(task.name);
  return fmt::format("{}", fmt::join(names, "|"));
}

std::string_view word(Compute compute) {
  switch (compute) {
    case Compute::f32:
      return "f32";
    case Compute::bf16:
      return "bf16";
    case Compute::q8:
      return "q8";
  }
  return "unknown";
}

Json optional_json(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

struct EvalCommand {
  ModelOptions model;
  OutputOptions output;
  std::string task_name;
  std::string data;
  std::string examples;
  std::string completions;
  std::string attention = "sift";
  std::string format;
  std::int64_t shots = kOfTask;
  std::int64_t max_tokens = kOfTask;
  std::int64_t limit = 0;
  std::int64_t seed = 0;
  double temperature = kOfTask;
  double top_p = kOfTask;

  int run() const {
    const TaskDefinition& definition = find_task(task_name);
    const TaskOptions options = task_settings(definition);
    JsonOutput json(output);
    const Task task = load_task(definition, {data, read_text(data)},
                                shots == kOfTask ? definition.shots : shots, read_examples());
    const auto order = sample_order(task, limit, static_cast<std::uint64_t>(seed));
    const std::string model_path = resolve_model(model.model);
    const Json all_settings = settings(task, order, options, model_path);
    CompletionsFile file(completions, all_settings.dump(), origin(model_path).dump());
    if (file.size() > 0) {
      log_info("{}: {} of {} samples are finished", completions, file.size(), order.size());
    }
    const bool whole = run_samples(task, order, options, file);
    return report(json, options, all_settings, file, whole);
  }

 private:
  TaskFile read_examples() const {
    return examples.empty() ? TaskFile{} : TaskFile{examples, read_text(examples)};
  }

  TaskOptions task_settings(const TaskDefinition& definition) const {
    TaskOptions options = task_options(definition, evaluation_policy(parse_policy(attention)));
    if (format == "chat") options.format = PromptFormat::chat;
    if (format == "plain") options.format = PromptFormat::plain;
    if (max_tokens != kOfTask) options.max_tokens = max_tokens;
    if (temperature >= 0) options.sampling.temperature = temperature;
    if (top_p >= 0) options.sampling.top_p = top_p;
    options.sampling.seed = static_cast<std::uint64_t>(seed);
    return options;
  }

  /// Everything that the completions depend on.
  Json settings(const Task& task, const std::vector<std::int64_t>& order,
                const TaskOptions& options, const std::string& model_path) const {
    return {{"task", task.definition->name},
            {"data", file_name(data)},
            {"data_hash", fmt::format("{:016x}", task.data_hash)},
            {"shots", task.shots},
            {"model", file_name(model_path)},
            {"model_bytes", std::filesystem::file_size(model_path)},
            {"backend", model.backend == BackendKind::cpu ? "cpu" : "reference"},
            {"compute", word(model.compute)},
            {"cache_type", traits(model.cache_type).name},
            {"attention", options.policy.name},
            {"format", name(options.format)},
            {"max_tokens", options.max_tokens},
            {"temperature", options.sampling.temperature},
            {"top_p", options.sampling.top_p},
            {"seed", seed},
            {"limit", order.size()}};
  }

  static Json origin(const std::string& model_path) {
    const BuildInformation build = build_information();
    return {{"version", build.version}, {"commit", build.commit}, {"model_path", model_path}};
  }

  /// False when it was interrupted.
  bool run_samples(const Task& task, const std::vector<std::int64_t>& order,
                   const TaskOptions& options, CompletionsFile& file) const {
    if (file.size() == static_cast<std::int64_t>(order.size())) return true;
    const auto engine = load_engine(model);
    catch_interrupts();
    Progress progress(task_name, static_cast<std::int64_t>(order.size()));
    return run_task(*engine, task, order, options, file, [&](const TaskProgress& now) {
      progress.update(now.finished, now.finished == now.total
                                        ? "samples"
                                        : fmt::format("samples, next one: {} tokens", now.tokens));
      return !interrupted();
    });
  }

  int report(JsonOutput& json, const TaskOptions& options, const Json& all_settings,
             const CompletionsFile& file, bool whole) const {
    const CompletionsSummary summary =
        file.size() > 0 ? summarise_completions(completions) : CompletionsSummary();
    warn(summary);
    if (!whole) {
      log_info("interrupted: the same command goes on after the {} samples that are finished",
               summary.samples);
    }
    if (json.wanted()) json.write(to_json(options, all_settings, summary));
    if (!json.to_stdout()) print(options, summary);
    return whole ? 0 : static_cast<int>(ErrorKind::interrupted);
  }

  /// Notices name lengths, so that there may be many: one stands for all.
  static void warn(const CompletionsSummary& summary) {
    std::int64_t count = 0;
    for (const auto& [notice, samples] : summary.notices) count += samples;
    if (count == 0) return;
    log_warning("{} of {} samples did not run as asked; one of them: {}", count, summary.samples,
                summary.notices.begin()->first);
  }

  Json to_json(const TaskOptions& options, const Json& all_settings,
               const CompletionsSummary& summary) const {
    return {
        {"task", task_name},
        {"completions", completions},
        {"settings", all_settings},
        {"samples", summary.samples},
        {"prompt_tokens", summary.prompt_tokens},
        {"generated_tokens", summary.generated_tokens},
        {"finish_reasons", summary.finish_reasons},
        {"seconds", summary.seconds},
        {"notices", summary.notices},
        {"attention",
         {{"policy", options.policy.name},
          {"realised_sparsity", optional_json(summary.realised_sparsity)},
          {"realised_sparsity_after_warmup", optional_json(summary.realised_sparsity_after_warmup)},
          {"union_density", optional_json(summary.union_density)},
          {"kept_mass", optional_json(summary.kept_mass)}}}};
  }

  void print(const TaskOptions& options, const CompletionsSummary& summary) const {
    std::vector<std::string> reasons;
    reasons.reserve(summary.finish_reasons.size());
    for (const auto& [reason, count] : summary.finish_reasons) {
      reasons.push_back(fmt::format("{} {}", reason, count));
    }
    print_text(fmt::format("{}: {} samples in {}, {} tokens generated ({}), {:.1f} s\n", task_name,
                           summary.samples, completions, summary.generated_tokens,
                           fmt::join(reasons, ", "), summary.seconds));
    print_text(
        fmt::format("{}: realised sparsity {} ({} after warm-up), union density {}, kept mass {}\n",
                    options.policy.name, percent(summary.realised_sparsity),
                    percent(summary.realised_sparsity_after_warmup), percent(summary.union_density),
                    percent(summary.kept_mass)));
  }
};

}  // namespace

void add_eval(CLI::App& root, int& exit_code) {
  auto command = std::make_shared<EvalCommand>();
  CLI::App* app =
      root.add_subcommand("eval", "Answer the questions of a downstream task, to be scored later");
  app->footer(
      "Example:\n  sift eval gsm8k --data test.jsonl --limit 64 --attention sift "
      "--completions gsm8k-sift.jsonl");
  app->add_option("task", command->task_name, "the task")->type_name(task_names())->required();
  app->add_option("--data", command->data, "the task's questions: JSON lines or an array")
      ->type_name("FILE")
      ->required();
  app->add_option("--completions", command->completions,
                  "JSON lines that answers go to; where they are there, the run goes on")
      ->type_name("FILE")
      ->required();
  app->add_option("--examples", command->examples,
                  "worked examples, in the format of the data, shown before each question")
      ->type_name("FILE");
  const auto of_task = [](CLI::Option* option) { option->default_str(""); };
  of_task(add_integer(*app, "--shots", command->shots, 0, 1000,
                      "worked examples before each question; default: the task's"));
  add_integer(*app, "--limit", command->limit, 0, 1'000'000'000,
              "samples to run, drawn by the seed; 0: all");
  add_integer(*app, "--seed", command->seed, 0, std::numeric_limits<std::int64_t>::max(),
              "of the order of samples and of sampling");
  of_task(add_integer(*app, "--max-tokens", command->max_tokens, 1, 1'000'000'000,
                      "new tokens at most; default: the task's"));
  of_task(add_number(*app, "--temperature", command->temperature, 0, 1000, false,
                     "randomness, 0 for none; default: the task's"));
  of_task(add_number(*app, "--top-p", command->top_p, 0, 1, true,
                     "sample among the most probable tokens that together have this probability; "
                     "default: the task's"));
  add_choice<std::string>(*app, "--format", command->format, {{"chat", "chat"}, {"plain", "plain"}},
                          "prompts by the model's chat template or as plain text; default: the "
                          "task's");
  add_attention(*app, command->attention);
  command->model.add_to(*app);
  command->model.add_context_to(*app);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
