#include <memory>

#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/generation.h"
#include "apps/cli/log.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"

namespace sift::cli {
namespace {

struct GenerateCommand {
  ModelOptions model;
  OutputOptions output;
  GenerationOptions generation;
  std::string attention = "sift";

  int run() const {
    const Policy policy = parse_policy(attention);
    const std::string text = generation.prompt_text();
    JsonOutput json(output);
    const auto engine = load_engine(model);
    const GenerationRequest request = generation.request(*engine, text, policy);
    const GenerationResult result = run_generation(*engine, request, !json.to_stdout());
    report(policy, result);
    if (json.wanted()) json.write(generation_json(*engine, policy, result));
    return result.finish_reason == FinishReason::interrupted
               ? static_cast<int>(ErrorKind::interrupted)
               : 0;
  }

  static void report(const Policy& policy, const GenerationResult& result) {
    if (result.generated_tokens == 0) {
      log_info("interrupted inside the prompt of {} tokens", result.prompt_tokens);
      return;
    }
    const AttentionStatistics s = result.attention.summary();
    log_info("prompt: {} tokens, {:.1f} tokens/s; generated: {} tokens, {:.1f} tokens/s ({})",
             result.prompt_tokens, prompt_tokens_per_second(result), result.generated_tokens,
             generated_tokens_per_second(result), name(result.finish_reason));
    log_info(
        "{}: realised sparsity {}, union density {}, kept mass {}; {} sparse and {} dense "
        "steps (token x layer)",
        policy.name, percent(s.realised_sparsity), percent(s.union_density), percent(s.kept_mass),
        s.sparse_steps, s.dense_steps);
    if (policy.automatic_warmup && !result.attention.warmups.empty()) {
      log_info("warm-up: {} rows recorded", result.attention.warmups.back());
    }
    if (s.candidate_density) {
      log_info("estimates: candidates {}, K bytes read {} of {}", percent(*s.candidate_density),
               mebibytes(s.k_bytes_read), mebibytes(s.k_bytes_dense));
    }
  }
};

}  // namespace

void add_generate(CLI::App& root, int& exit_code) {
  auto command = std::make_shared<GenerateCommand>();
  CLI::App* app = root.add_subcommand("generate", "Continue a prompt");
  app->footer(
      "Example:\n  sift generate --prompt \"The capital of France is\" --max-tokens 32 --attention "
      "sift:tau=0.9");
  command->generation.add_prompt_to(*app);
  command->generation.add_sampling_to(*app);
  add_attention(*app, command->attention);
  command->model.add_to(*app);
  command->model.add_context_to(*app);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
