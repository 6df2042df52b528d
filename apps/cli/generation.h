#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sift/engine/engine.h"

namespace sift::cli {

/// Options of what to generate, shared by the commands that do.
struct GenerationOptions {
  std::string prompt;
  std::string prompt_file;
  std::string positional;  ///< "-": the prompt comes from standard input
  std::int64_t max_tokens = 256;
  SamplingOptions sampling;
  std::int64_t seed = 0;
  std::vector<std::string> stop;
  std::int64_t logprobs = 0;

  void add_prompt_to(CLI::App& app);
  void add_sampling_to(CLI::App& app);

  /// The prompt's text. Throws Error (invalid_argument) unless it was given in exactly one way.
  std::string prompt_text() const;
  /// How to generate, without prompt and policy.
  GenerationRequest settings() const;
  GenerationRequest request(const Engine& engine, const std::string& text,
                            const Policy& policy) const;
};

/// Shows how far a long prompt is, on standard error, and lets Ctrl-C end it. For one generation.
PromptCallback prompt_progress();

/// Generates while text goes to standard output if `stream`. Ctrl-C ends it.
GenerationResult run_generation(Engine& engine, const GenerationRequest& request, bool stream);

/// The JSON object of a generation.
nlohmann::ordered_json generation_json(const Engine& engine, const Policy& policy,
                                       const GenerationResult& result);

double prompt_tokens_per_second(const GenerationResult& result);
double generated_tokens_per_second(const GenerationResult& result);

}  // namespace sift::cli
