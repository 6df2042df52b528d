#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sift/attention/policy.h"
#include "sift/engine/engine.h"

namespace sift::cli {

/// Options of every command that loads a model.
struct ModelOptions {
  std::string model = "smollm2-135m-instruct";
  std::int64_t threads = 0;  ///< 0: chosen by the machine
  std::string affinity;      ///< processor list, empty: left to the system
  BackendKind backend = BackendKind::cpu;
  Compute compute = Compute::q8;
  DType cache_type = DType::f16;
  std::int64_t context = 0;

  void add_to(CLI::App& app);
  /// `--model`; `argument` names it where it may also stand without the dashes.
  void add_model_to(CLI::App& app, const std::string& argument = "");
  void add_threads_to(CLI::App& app);
  /// `--context`, of commands that do not choose their own.
  void add_context_to(CLI::App& app);
};

/// Where results go.
struct OutputOptions {
  bool json = false;
  std::string output;  ///< file for the JSON object, empty: standard output

  void add_to(CLI::App& app);
};

void add_log_level(CLI::App& app);

/// `--attention`, given once.
CLI::Option* add_attention(CLI::App& app, std::string& policy);

/// Those of the common options (`--model`, `--threads`, `--affinity`, `--attention`) that a command
/// has no use for. It takes them all the same, so that one set of options serves every command;
/// what they are given is checked as elsewhere, and --help says that it changes nothing.
void add_unused(CLI::App& app, std::initializer_list<std::string_view> options);

/// The file that `--model` means: a path, or the name of a model that `sift pull` got. Throws Error
/// (bad_file) saying what to do when there is none.
std::string resolve_model(const std::string& model);

/// What this program keeps: ${SIFT_HOME:-~/.cache/sift}.
std::string sift_home();

/// Folder of pulled models.
std::string models_folder();

int resolve_threads(const ModelOptions& options);

/// Loads the model; says so on standard error.
std::unique_ptr<Engine> load_engine(const ModelOptions& options);

/// Whole contents of a file, "-" for standard input. Throws Error (input_output).
std::string read_text(const std::string& path);

/// The tokens of a `--text` file: a text, or documents where its name ends in .jsonl. Throws Error
/// as read_text() and corpus_tokens() do.
std::vector<std::int32_t> read_tokens(const Engine& engine, const std::string& path);

}  // namespace sift::cli
