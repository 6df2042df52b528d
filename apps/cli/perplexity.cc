#include "sift/eval/perplexity.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/log.h"
#include "apps/cli/progress.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/eval/corpus.h"

namespace sift::cli {
namespace {

struct PerplexityCommand {
  ModelOptions model;
  OutputOptions output;
  PerplexityOptions options;
  std::string text_file;
  std::string attention = "full";

  PerplexityCommand() { options.context = 2048; }

  int run() {
    options.policy = evaluation_policy(parse_policy(attention));
    JsonOutput json(output);
    const std::string text = read_text(text_file);
    const auto engine = load_engine(model);
    const auto tokens = corpus_tokens(*engine, text_file, text);
    catch_interrupts();
    const PerplexityResult result = evaluate(*engine, tokens);
    if (result.windows == 0) log_info("interrupted inside the first window");
    if (!result.notice.empty()) log_warning("{}", result.notice);
    if (json.wanted()) json.write(to_json(*engine, result));
    if (!json.to_stdout() && result.windows > 0) print(result);
    return result.interrupted ? static_cast<int>(ErrorKind::interrupted) : 0;
  }

 private:
  PerplexityResult evaluate(Engine& engine, const std::vector<std::int32_t>& tokens) const {
    const std::int64_t whole = static_cast<std::int64_t>(tokens.size()) / options.context;
    const std::int64_t windows =
        std::max<std::int64_t>(options.windows == 0 ? whole : options.windows, 1);
    Progress progress("perplexity", windows * options.context);
    const auto show = [&](const PerplexityResult& so_far, std::int64_t rows) {
      progress.update(rows, so_far.windows == 0
                                ? "tokens"
                                : fmt::format("tokens, perplexity {:.4f} over {} windows, {:.1f} s",
                                              so_far.perplexity, so_far.windows, so_far.seconds));
      return !interrupted();
    };
    return perplexity(engine, tokens, options, show);
  }

  /// Nothing was measured before the first window ended.
  static nlohmann::ordered_json measured(const PerplexityResult& result, double value) {
    return result.windows == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(value);
  }

  nlohmann::ordered_json to_json(const Engine& engine, const PerplexityResult& result) const {
    nlohmann::ordered_json object = {
        {"perplexity", measured(result, result.perplexity)},
        {"standard_error", measured(result, result.standard_error)},
        {"scored_tokens", result.scored_tokens},
        {"windows", result.windows},
        {"context", options.context},
        {"prompt_tokens", options.prompt_tokens},
        {"seconds", result.seconds},
        {"notice", result.notice},
        {"attention", attention_json(options.policy, result.attention)}};
    object.update(engine_json(engine));
    return object;
  }

  void print(const PerplexityResult& result) const {
    const AttentionStatistics s = result.attention.summary();
    print_text(
        fmt::format("perplexity {:.4f} ± {:.4f} over {} tokens in {} windows of {} ({:.1f} s)\n",
                    result.perplexity, result.standard_error, result.scored_tokens, result.windows,
                    options.context, result.seconds));
    print_text(fmt::format(
        "{}: realised sparsity {} ({} after warm-up), union density {}, kept mass {}\n",
        options.policy.name, percent(s.realised_sparsity),
        percent(s.realised_sparsity_after_warmup), percent(s.union_density), percent(s.kept_mass)));
    if (options.policy.automatic_warmup) {
      print_text(fmt::format("warm-up rows of each window: {}\n",
                             fmt::join(result.attention.warmups, ", ")));
    }
    if (!s.candidate_density) return;
    print_text(fmt::format(
        "estimates: candidates {}, missed keys {}, output error {} against exact sifting\n",
        percent(s.candidate_density), percent(s.missed_keys), percent(s.output_error)));
  }
};

}  // namespace

void add_perplexity(CLI::App& root, int& exit_code) {
  auto command = std::make_shared<PerplexityCommand>();
  CLI::App* app = root.add_subcommand("perplexity", "Measure how well a text is predicted");
  app->footer(
      "Example:\n  sift perplexity --text wiki.test.raw --context 2048 --windows 16 --score "
      "second-half --attention sift");
  app->add_option(
         "--text", command->text_file,
         "file with the text, or with documents as JSON lines (.jsonl), - for standard input")
      ->type_name("FILE")
      ->required();
  PerplexityOptions& options = command->options;
  add_integer(*app, "--context", options.context, 2, 1'000'000'000, "tokens of a window");
  add_integer(*app, "--windows", options.windows, 0, 1'000'000'000,
              "windows to run; 0: all that the text fills");
  add_integer(*app, "--prompt-tokens", options.prompt_tokens, 0, 1'000'000'000,
              "first rows of each window that run dense, as a prompt");
  add_choice<Score>(*app, "--score", options.score,
                    {{"all", Score::all},
                     {"second-half", Score::second_half},
                     {"after-prompt", Score::after_prompt}},
                    "which predictions count");
  add_choice<EvaluationPath>(
      *app, "--path", options.path,
      {{"prefill", EvaluationPath::prefill}, {"decode", EvaluationPath::decode}},
      "layer by layer over all rows, or step by step through the decode kernels");
  add_attention(*app, command->attention);
  command->model.add_to(*app);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
