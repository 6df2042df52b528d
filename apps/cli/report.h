#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/cli/common.h"
#include "sift/attention/statistics.h"
#include "sift/engine/engine.h"

namespace sift::cli {

/// The `attention` object of reports.
nlohmann::ordered_json attention_json(const Policy& policy, const AttentionTotals& totals);

/// Members that say how a model ran: model, backend, compute, cache_type, threads.
nlohmann::ordered_json engine_json(const Engine& engine);

/// Where a command's JSON object goes. An output file is opened before the model is loaded, so
/// that one that cannot be written is found at once.
class JsonOutput {
 public:
  /// Throws Error (input_output) when the file cannot be written.
  explicit JsonOutput(const OutputOptions& options);
  /// Whether there is anybody who wants the object.
  bool wanted() const { return to_stdout_ || file_.is_open(); }
  /// Whether standard output is reserved for the object.
  bool to_stdout() const { return to_stdout_; }
  void write(const nlohmann::ordered_json& object);

 private:
  bool to_stdout_;
  std::string path_;
  std::ofstream file_;
};

/// Writes to standard output. Throws Error (input_output) when that fails.
void print_text(const std::string& text);
void flush_stdout();

/// "87.5 %", or "–" for nothing.
std::string percent(const std::optional<double>& fraction);

}  // namespace sift::cli
