#include "apps/cli/common.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "apps/cli/arguments.h"
#include "apps/cli/known_models.h"
#include "apps/cli/log.h"
#include "sift/core/error.h"
#include "sift/core/threads.h"
#include "sift/eval/corpus.h"
#include "sift/transformer/transformer.h"

namespace sift::cli {

namespace {

/// A common option of a command that has no use for it.
struct UnusedOption {
  std::string_view name;
  const char* type;
  void (*check)(const std::string& text);
};

constexpr std::array kUnusedOptions = {
    UnusedOption{"--model", "MODEL", [](const std::string& text) { resolve_model(text); }},
    UnusedOption{
        "--threads", "N",
        [](const std::string& text) { parse_integer("--threads", text, 1, kMaximumThreads); }},
    UnusedOption{"--affinity", "LIST", [](const std::string& text) { parse_processor_list(text); }},
    UnusedOption{"--attention", "POLICY", [](const std::string& text) { parse_policy(text); }},
};

}  // namespace

void ModelOptions::add_to(CLI::App& app) {
  add_model_to(app);
  add_threads_to(app);
  app.add_option("--affinity", affinity, "processors that threads are tied to, as in 0,2-5")
      ->type_name("LIST");
  add_choice<BackendKind>(app, "--backend", backend,
                          {{"cpu", BackendKind::cpu}, {"reference", BackendKind::reference}},
                          "kernels that compute; reference is slow and exact");
  add_choice<Compute>(
      app, "--compute", compute,
      {{"f32", Compute::f32}, {"bf16", Compute::bf16}, {"q8", Compute::q8}},
      "how activations meet weights: as floats, rounded to bfloat16, or quantised to 8 bits");
  add_choice<DType>(
      app, "--cache-type", cache_type,
      {{"f16", DType::f16}, {"bf16", DType::bf16}, {"f32", DType::f32}, {"q8_0", DType::q8_0}},
      "element type of the key-value cache");
}

void ModelOptions::add_model_to(CLI::App& app, const std::string& argument) {
  app.add_option(argument.empty() ? "--model" : "--model," + argument, model,
                 "GGUF file, or the name of a model that `sift pull` got")
      ->type_name("MODEL")
      ->capture_default_str();
}

void ModelOptions::add_threads_to(CLI::App& app) {
  add_integer(app, "--threads", threads, 1, kMaximumThreads,
              "threads; default: one per core that this process may use")
      ->default_str("");
}

void ModelOptions::add_context_to(CLI::App& app) {
  add_integer(app, "--context", context, 1, 1'000'000'000,
              "tokens that fit into the context; default: as many as the model was made for")
      ->default_str("");
}

void OutputOptions::add_to(CLI::App& app) {
  app.add_flag("--json", json, "print one JSON object, and everything else on standard error")
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  app.add_option("--output", output, "file that the JSON object goes to instead")
      ->type_name("FILE");
}

void add_log_level(CLI::App& app) {
  add_choice<LogLevel>(app, "--log-level", log_level(),
                       {{"error", LogLevel::error},
                        {"warning", LogLevel::warning},
                        {"info", LogLevel::info},
                        {"debug", LogLevel::debug}},
                       "what is said on standard error");
}

CLI::Option* add_attention(CLI::App& app, std::string& policy) {
  return app.add_option("--attention", policy, "attention policy: see `sift policies`")
      ->type_name("POLICY")
      ->capture_default_str();
}

void add_unused(CLI::App& app, std::initializer_list<std::string_view> options) {
  for (const std::string_view name : options) {
    const auto* option = std::ranges::find(kUnusedOptions, name, &UnusedOption::name);
    app.add_option_function<std::string>(std::string(name), option->check,
                                         "checked, but changes nothing here")
        ->type_name(option->type);
  }
}

std::string sift_home() {
  if (const char* home = std::getenv("SIFT_HOME"); home != nullptr && *home != '\0') return home;
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "" : home) + "/.cache/sift";
}

std::string models_folder() { return sift_home() + "/models"; }

std::string resolve_model(const std::string& model) {
  if (std::filesystem::exists(model)) return model;
  if (const KnownModel* known = find_known_model(model)) {
    std::string path = models_folder() + "/" + known->file;
    if (std::filesystem::exists(path)) return path;
    throw Error(ErrorKind::bad_file,
                fmt::format("model {} is not there yet: get it with `sift pull {}`", model, model));
  }
  throw Error(
      ErrorKind::bad_file,
      fmt::format("no model file at {}, and no model of that name is known to `sift pull`", model));
}

int resolve_threads(const ModelOptions& options) {
  return options.threads == 0 ? default_thread_count() : static_cast<int>(options.threads);
}

std::unique_ptr<Engine> load_engine(const ModelOptions& options) {
  EngineOptions engine_options;
  engine_options.model_path = resolve_model(options.model);
  engine_options.backend = options.backend;
  engine_options.compute = options.compute;
  engine_options.cache_type = options.cache_type;
  engine_options.threads = resolve_threads(options);
  engine_options.context = options.context;
  if (!options.affinity.empty()) {
    pin_threads(parse_processor_list(options.affinity), engine_options.threads);
  }
  auto engine = std::make_unique<Engine>(engine_options);
  log_info("{}: {} backend, compute {}, cache {}, {} threads", engine_options.model_path,
           engine->transformer().backend().name(), engine->transformer().backend().compute(),
           traits(options.cache_type).name, engine_options.threads);
  return engine;
}

std::string read_text(const std::string& path) {
  std::string text;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
    return text;
  }
  std::ifstream file(path, std::ios::binary);
  if (std::filesystem::is_directory(path) || !file) {
    throw Error(ErrorKind::input_output, fmt::format("cannot read {}", path));
  }
  text.assign(std::istreambuf_iterator<char>(file), {});
  return text;
}

std::vector<std::int32_t> read_tokens(const Engine& engine, const std::string& path) {
  return corpus_tokens(engine, path, read_text(path));
}

}  // namespace sift::cli
