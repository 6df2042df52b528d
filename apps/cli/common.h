#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
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
};

/// Where results go.
struct OutputOptions {
  bool json = false;
  std::string output;  ///< file for the JSON object, empty: standard output

  void add_to(CLI::App& app);
};

/// Options of every command.
void add_log_level(CLI::App& app);

/// `--attention`, given once.
CLI::Option* add_attention(CLI::App& app, std::string& policy);

/// The file that `--model` means: a path, or the name of a model that `sift pull` got. Throws Error
/// (bad_file) saying what to do when there is none.
std::string resolve_model(const std::string& model);

/// Folder of pulled models: ${SIFT_HOME:-~/.cache/sift}/models.
std::string models_folder();

int resolve_threads(const ModelOptions& options);

/// Loads the model; says so on standard error.
std::unique_ptr<Engine> load_engine(const ModelOptions& options);

/// Whole contents of a file, "-" for standard input. Throws Error (input_output).
std::string read_text(const std::string& path);

}  // namespace sift::cli
