#include "apps/cli/generation.h"

#include <memory>
#include <optional>

#include "apps/cli/arguments.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/log.h"
#include "apps/cli/progress.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift::cli {

void GenerationOptions::add_prompt_to(CLI::App& app) {
  app.add_option("--prompt", prompt, "the prompt")->type_name("TEXT");
  app.add_option("--prompt-file", prompt_file, "file that holds the prompt")->type_name("FILE");
  app.add_option("input", positional, "- reads the prompt from standard input")->type_name("-");
}

void GenerationOptions::add_sampling_to(CLI::App& app) {
  add_integer(app, "--max-tokens", max_tokens, 1, 1'000'000'000, "tokens to generate at most");
  add_number(app, "--temperature", sampling.temperature, 0, 1000, false,
             "randomness; 0 always takes the most probable token");
  add_integer(app, "--top-k", sampling.top_k, 0, 1'000'000'000,
              "sample among the k most probable tokens; 0 is off");
  add_number(app, "--top-p", sampling.top_p, 0, 1, true,
             "sample among the most probable tokens that together have this probability");
  add_number(app, "--min-p", sampling.min_p, 0, 1, false,
             "leave out tokens below this share of the most probable one");
  add_number(app, "--repetition-penalty", sampling.repetition_penalty, 0, 1000, true,
             "makes tokens seen before less (above 1) or more (below 1) probable");
  add_integer(app, "--seed", seed, 0, std::numeric_limits<std::int64_t>::max(),
              "of the random numbers: same build and seed, same text");
  app.add_option("--stop", stop, "text that generation ends before; may be repeated")
      ->type_name("TEXT")
      ->take_all()
      ->allow_extra_args(false);
  add_integer(app, "--logprobs", logprobs, 0, 20,
              "report the log probabilities of this many tokens per step");
}

std::string GenerationOptions::prompt_text() const {
  const int given =
      (prompt.empty() ? 0 : 1) + (prompt_file.empty() ? 0 : 1) + (positional.empty() ? 0 : 1);
  if (given != 1 || (!positional.empty() && positional != "-")) {
    throw Error(ErrorKind::invalid_argument,
                "expected one prompt: --prompt TEXT (not empty), --prompt-file FILE, or - for "
                "standard input");
  }
  if (!prompt.empty()) return prompt;
  return read_text(positional.empty() ? prompt_file : positional);
}

GenerationRequest GenerationOptions::settings() const {
  GenerationRequest request;
  request.sampling = sampling;
  request.sampling.seed = static_cast<std::uint64_t>(seed);
  request.max_tokens = max_tokens;
  request.stop = stop;
  request.logprobs = static_cast<int>(logprobs);
  return request;
}

GenerationRequest GenerationOptions::request(const Engine& engine, const std::string& text,
                                             const Policy& policy) const {
  GenerationRequest request = settings();
  request.prompt = engine.tokenizer().encode_prompt(text, ParseSpecial::yes);
  request.policy = policy;
  return request;
}

GenerationResult run_generation(Engine& engine, const GenerationRequest& request, bool stream) {
  catch_interrupts();
  const auto on_token = [&](const GeneratedToken& token) {
    if (stream) print_text(token.text);
    return !interrupted();
  };
  GenerationResult result = engine.generate(request, on_token, prompt_progress());
  if (stream) print_text("\n");
  if (!result.notice.empty()) log_warning("{}", result.notice);
  return result;
}

PromptCallback prompt_progress() {
  auto progress = std::make_shared<std::optional<Progress>>();
  return [progress](std::int64_t done, std::int64_t total) {
    // A prompt of one piece is done before anyone waits.
    if (!*progress && done < total) progress->emplace("prompt", total);
    if (*progress) (*progress)->update(done, "tokens");
    if (done == total) progress->reset();
    return !interrupted();
  };
}

double prompt_tokens_per_second(const GenerationResult& result) {
  if (result.generated_tokens == 0) return 0;  // interrupted inside the prompt
  return static_cast<double>(result.prompt_tokens) / result.prefill_seconds;
}

double generated_tokens_per_second(const GenerationResult& result) {
  // The first token comes out of the prompt's last row.
  const auto steps = static_cast<double>(result.generated_tokens - 1);
  return result.decode_seconds > 0 ? steps / result.decode_seconds : 0;
}

nlohmann::ordered_json generation_json(const Engine& engine, const Policy& policy,
                                       const GenerationResult& result) {
  nlohmann::ordered_json object = {{"text", result.text},
                                   {"token_ids", result.token_ids},
                                   {"finish_reason", std::string(name(result.finish_reason))},
                                   {"prompt_tokens", result.prompt_tokens},
                                   {"generated_tokens", result.generated_tokens},
                                   {"prefill_seconds", result.prefill_seconds},
                                   {"decode_seconds", result.decode_seconds}};
  if (!result.samples.empty()) {
    nlohmann::ordered_json steps = nlohmann::ordered_json::array();
    for (const SampledToken& sample : result.samples) {
      nlohmann::ordered_json top = nlohmann::ordered_json::array();
      for (const TokenProbability& token : sample.top) {
        top.push_back({{"id", token.id}, {"log_probability", token.log_probability}});
      }
      steps.push_back({{"id", sample.token.id},
                       {"log_probability", sample.token.log_probability},
                       {"top", top}});
    }
    object["logprobs"] = steps;
  }
  object["notice"] = result.notice;
  object["attention"] = attention_json(policy, result.attention);
  object.update(engine_json(engine));
  return object;
}

}  // namespace sift::cli
