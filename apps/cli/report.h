#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/cli/common.h"
#include "sift/engine/engine.h"
#include "sift/eval/attention_json.h"

namespace sift::cli {

/// Members that say how a model ran: model, backend, compute, cache_type, threads.
nlohmann::ordered_json engine_json(const Engine& engine);

/// Where a command's JSON object goes. An output file is opened before the model is loaded, so
/// that one that cannot be written is found at once: as FILE.part, which takes FILE's place when
/// the object is written, so that a run that fails leaves an older FILE as it was. What is there
/// and no regular file (a device, a pipe, a link to nothing) is written to itself.
class JsonOutput {
 public:
  /// Throws Error (input_output) when the file cannot be written.
  explicit JsonOutput(const OutputOptions& options);
  ~JsonOutput();
  JsonOutput(const JsonOutput&) = delete;
  JsonOutput& operator=(const JsonOutput&) = delete;
  /// Whether there is anybody who wants the object.
  bool wanted() const { return to_stdout_ || file_.is_open(); }
  /// Whether standard output is reserved for the object.
  bool to_stdout() const { return to_stdout_; }
  /// Throws Error (input_output) when that fails.
  void write(const nlohmann::ordered_json& object);

 private:
  bool to_stdout_;
  std::string path_;
  std::filesystem::path target_;  // path_ with links followed: a link stays one
  std::filesystem::path part_;    // empty: nothing to rename or remove
  std::ofstream file_;
};

/// Writes all of `text` to standard output at once, through interrupts. Throws Error (input_output)
/// when that fails.
void print_text(const std::string& text);

/// "87.5 %", or "–" for nothing.
std::string percent(const std::optional<double>& fraction);

/// "93.8 MiB".
std::string mebibytes(std::int64_t bytes);

}  // namespace sift::cli
