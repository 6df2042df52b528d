#include <fmt/format.h>

#include <exception>
#include <functional>
#include <memory>
#include <optional>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/log.h"
#include "apps/cli/progress.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/eval/speed.h"
#include "sift/sampler/random.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/transformer/transformer.h"

namespace sift::cli {
namespace {

struct BenchCommand {
  ModelOptions model;
  OutputOptions output;
  std::string attention = "full";
  std::string text_file;
  std::vector<std::int64_t> depths;
  std::int64_t tokens = 0;
  std::int64_t repeat = 0;

  using Measure =
      std::function<SpeedResult(Engine&, const std::vector<std::int32_t>&, const Policy&,
                                std::int64_t depth, const SpeedCallback& callback)>;

  int run(const std::string& name, const Measure& measure) const {
    const Policy policy = parse_policy(attention);
    JsonOutput json(output);
    const std::string text = text_file.empty() ? "" : read_text(text_file);
    const auto engine = load_engine(model);
    const std::vector<std::int32_t> ids = token_ids(*engine, text);
    catch_interrupts();
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    std::exception_ptr failure;  // kept until the depths that were measured before it are written
    for (const std::int64_t depth : depths) {
      try {
        const SpeedResult result =
            measure_with_progress(name, measure, *engine, ids, policy, depth);
        if (result.tokens_per_second.empty()) break;  // interrupted before the first one ended
        results.push_back(to_json(name, *engine, policy, result));
        if (!json.to_stdout()) print(name, policy, result);
      } catch (const Error&) {
        failure = std::current_exception();
      }
      if (failure || interrupted()) break;
    }
    if (failure && results.empty()) std::rethrow_exception(failure);
    nlohmann::ordered_json object = {{"results", results},
                                     {"text", text_file.empty() ? "random tokens" : text_file}};
    object.update(engine_json(*engine));
    if (json.wanted()) json.write(object);
    if (failure) std::rethrow_exception(failure);
    return interrupted() ? static_cast<int>(ErrorKind::interrupted) : 0;
  }

 private:
  SpeedResult measure_with_progress(const std::string& name, const Measure& measure, Engine& engine,
                                    const std::vector<std::int32_t>& ids, const Policy& policy,
                                    std::int64_t depth) const {
    std::optional<Progress> progress;
    return measure(engine, ids, policy, depth, [&](std::int64_t done, std::int64_t total) {
      if (!progress) progress.emplace(fmt::format("{} depth {}", name, depth), total);
      progress->update(done, "tokens");
      return !interrupted();
    });
  }

  /// The text's tokens, or random ones, whose attention is unlike a text's.
  static std::vector<std::int32_t> token_ids(const Engine& engine, const std::string& text) {
    if (!text.empty()) return engine.tokenizer().encode(text, ParseSpecial::yes);
    log_warning("no --text: the tokens are random, so sparsity is not that of real text");
    std::vector<std::int32_t> ids(static_cast<std::size_t>(engine.context()));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<std::int32_t>(uniform_random(0, 0, i) * engine.tokenizer().size());
    }
    return ids;
  }

  static nlohmann::ordered_json to_json(const std::string& name, const Engine& engine,
                                        const Policy& policy, const SpeedResult& result) {
    return {{"name", name},
            {"depth", result.depth},
            {"tokens", result.tokens},
            {"median_tokens_per_second", result.median()},
            {"minimum", result.minimum()},
            {"maximum", result.maximum()},
            {"repetitions", result.tokens_per_second},
            {"compute", engine.transformer().backend().compute()},
            {"notice", result.notice},
            {"attention", attention_json(policy, result.attention)}};
  }

  static void print(const std::string& name, const Policy& policy, const SpeedResult& result) {
    print_text(fmt::format("{} {} depth {}: {:.1f} tokens/s (median of {}; {:.1f} to {:.1f})\n",
                           name, policy.name, result.depth, result.median(),
                           result.tokens_per_second.size(), result.minimum(), result.maximum()));
  }
};

std::shared_ptr<BenchCommand> add_measurement(CLI::App& app, std::vector<std::int64_t> depths,
                                              std::int64_t lowest_depth,
                                              const std::string& depth_help, std::int64_t repeat) {
  auto command = std::make_shared<BenchCommand>();
  command->depths = std::move(depths);
  command->repeat = repeat;
  add_integers(app, "--depth", command->depths, lowest_depth, 1'000'000'000, depth_help);
  add_integer(app, "--repeat", command->repeat, 1, 1'000'000, "repetitions");
  app.add_option("--text", command->text_file, "file whose tokens are run; default: random tokens")
      ->type_name("FILE");
  add_attention(app, command->attention);
  command->model.add_to(app);
  command->model.add_context_to(app);
  command->output.add_to(app);
  add_log_level(app);
  return command;
}

}  // namespace

void add_bench(CLI::App& root, int& exit_code) {
  CLI::App* bench = root.add_subcommand("bench", "Measure speed: medians and spread");
  bench->require_subcommand(1);
  bench->footer("Example:\n  sift bench decode --depth 0,8000 --text book.txt");

  CLI::App* decode = bench->add_subcommand("decode", "Token-by-token generation at given depths");
  decode->footer(
      "Example:\n  sift bench decode --depth 0,4096,8000 --text book.txt --attention sift");
  auto decoding = add_measurement(*decode, {0, 4096}, 0, "tokens in the cache before", 5);
  decoding->tokens = 32;
  add_integer(*decode, "--tokens", decoding->tokens, 1, 1'000'000, "tokens of one repetition");
  decode->callback([decoding, &exit_code] {
    exit_code = decoding->run("decode", [&](Engine& engine, const std::vector<std::int32_t>& ids,
                                            const Policy& policy, std::int64_t depth,
                                            const SpeedCallback& callback) {
      return decode_speed(engine, ids, policy, depth, decoding->tokens, decoding->repeat, callback);
    });
  });

  CLI::App* prefill = bench->add_subcommand("prefill", "Processing prompts of given lengths");
  prefill->footer("Example:\n  sift bench prefill --depth 512,2048 --repeat 5");
  auto prefilling = add_measurement(*prefill, {512}, 1, "tokens of the prompt", 5);
  prefill->callback([prefilling, &exit_code] {
    exit_code = prefilling->run(
        "prefill", [&](Engine& engine, const std::vector<std::int32_t>& ids, const Policy& policy,
                       std::int64_t depth, const SpeedCallback& callback) {
          return prefill_speed(engine, ids, policy, depth, prefilling->repeat, callback);
        });
  });

  add_bench_attention(*bench, exit_code);
}

}  // namespace sift::cli
