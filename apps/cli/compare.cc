#include <fmt/format.h>

#include <functional>
#include <memory>

#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/generation.h"
#include "apps/cli/log.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"

namespace sift::cli {
namespace {

struct Outcome {
  Policy policy;
  GenerationResult result;
  AttentionStatistics attention;
};

struct Line {
  std::string_view title;
  std::function<std::string(const Outcome&)> cell;
};

/// How many columns `text` takes, where every character takes one.
std::size_t columns(const std::string& text) {
  std::size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  return count;
}

std::string padded(const std::string& text, std::size_t width) {
  const std::size_t used = columns(text);
  return std::string(used < width ? width - used : 0, ' ') + text;
}

const std::vector<Line>& table_lines() {
  static const std::vector<Line> kLines = {
      {"prompt tokens/s",
       [](const Outcome& o) { return fmt::format("{:.1f}", prompt_tokens_per_second(o.result)); }},
      {"generated tokens/s",
       [](const Outcome& o) {
         return fmt::format("{:.1f}", generated_tokens_per_second(o.result));
       }},
      {"time to first token",
       [](const Outcome& o) { return fmt::format("{:.2f} s", o.result.prefill_seconds); }},
      {"realised sparsity",
       [](const Outcome& o) { return percent(o.attention.realised_sparsity); }},
      {"union density", [](const Outcome& o) { return percent(o.attention.union_density); }},
      {"kept mass", [](const Outcome& o) { return percent(o.attention.kept_mass); }},
      {"candidate density",
       [](const Outcome& o) { return percent(o.attention.candidate_density); }},
      {"K bytes read", [](const Outcome& o) { return mebibytes(o.attention.k_bytes_read); }},
      {"K bytes, dense", [](const Outcome& o) { return mebibytes(o.attention.k_bytes_dense); }},
      {"V bytes read", [](const Outcome& o) { return mebibytes(o.attention.v_bytes_read); }},
      {"V bytes, dense", [](const Outcome& o) { return mebibytes(o.attention.v_bytes_dense); }},
      {"sparse steps",
       [](const Outcome& o) { return fmt::format("{}", o.attention.sparse_steps); }},
      {"dense steps", [](const Outcome& o) { return fmt::format("{}", o.attention.dense_steps); }},
      {"finished by", [](const Outcome& o) { return std::string(name(o.result.finish_reason)); }},
  };
  return kLines;
}

std::string table(const std::vector<Outcome>& outcomes) {
  constexpr std::size_t kTitleWidth = 22;
  std::vector<std::size_t> widths;
  std::string text = std::string(kTitleWidth, ' ');
  for (const Outcome& outcome : outcomes) {
    widths.push_back(std::max<std::size_t>(outcome.policy.name.size(), 12) + 2);
    text += padded(outcome.policy.name, widths.back());
  }
  text += "\n";
  for (const Line& line : table_lines()) {
    text += fmt::format("{:<{}}", line.title, kTitleWidth);
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      text += padded(line.cell(outcomes[i]), widths[i]);
    }
    text += "\n";
  }
  return text +
         "(steps: generated tokens × layers; sparsity counts warm-up steps as 0; V: value rows "
         "of the cache)\n";
}

struct CompareCommand {
  ModelOptions model;
  OutputOptions output;
  GenerationOptions generation;
  std::vector<std::string> attention;

  int run() const {
    std::vector<Policy> policies;
    policies.reserve(attention.size());
    for (const std::string& text : attention) policies.push_back(parse_policy(text));
    const std::string text = generation.prompt_text();
    JsonOutput json(output);
    const auto engine = load_engine(model);
    std::vector<Outcome> outcomes;
    for (const Policy& policy : policies) {
      const GenerationRequest request = generation.request(*engine, text, policy);
      log_info("\n== {}: {} prompt tokens, continued by up to {}", policy.name,
               request.prompt.size(), request.max_tokens);
      GenerationResult result = run_generation(*engine, request, !json.to_stdout());
      const AttentionStatistics statistics = result.attention.summary();
      outcomes.push_back({policy, std::move(result), statistics});
      if (outcomes.back().result.finish_reason == FinishReason::interrupted) break;
    }
    if (json.wanted()) json.write(outcomes_json(*engine, outcomes));
    if (!json.to_stdout()) print_text("\n" + table(outcomes));
    return outcomes.back().result.finish_reason == FinishReason::interrupted
               ? static_cast<int>(ErrorKind::interrupted)
               : 0;
  }

  static nlohmann::ordered_json outcomes_json(const Engine& engine,
                                              const std::vector<Outcome>& outcomes) {
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (const Outcome& outcome : outcomes) {
      results.push_back(generation_json(engine, outcome.policy, outcome.result));
    }
    return {{"results", results}};
  }
};

}  // namespace

void add_compare(CLI::App& root, int& exit_code) {
  auto command = std::make_shared<CompareCommand>();
  CLI::App* app = root.add_subcommand(
      "compare", "Continue a prompt under several attention policies, side by side");
  app->footer(
      "Example:\n  sift compare --prompt-file examples/data/long_prompt.txt --attention full "
      "--attention sift");
  command->generation.add_prompt_to(*app);
  command->generation.add_sampling_to(*app);
  app->add_option("--attention", command->attention, "attention policies; repeat for each")
      ->type_name("POLICY")
      ->take_all()
      ->allow_extra_args(false)
      ->required();
  command->model.add_to(*app);
  command->model.add_context_to(*app);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
