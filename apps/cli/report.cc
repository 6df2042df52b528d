#include "apps/cli/report.h"

#include <fmt/format.h>

#include <cstdio>

#include "sift/core/error.h"
#include "sift/transformer/transformer.h"

namespace sift::cli {
namespace {

nlohmann::ordered_json optional_json(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

}  // namespace

nlohmann::ordered_json attention_json(const Policy& policy, const AttentionTotals& totals) {
  const AttentionStatistics s = totals.summary();
  return {{"policy", policy.name},
          {"realised_sparsity", optional_json(s.realised_sparsity)},
          {"realised_sparsity_after_warmup", optional_json(s.realised_sparsity_after_warmup)},
          {"union_density", optional_json(s.union_density)},
          {"kept_mass", optional_json(s.kept_mass)},
          {"v_bytes_read", s.v_bytes_read},
          {"v_bytes_dense", s.v_bytes_dense},
          {"sparse_steps", s.sparse_steps},
          {"dense_steps", s.dense_steps},
          {"degenerate_fits", s.degenerate_fits},
          {"ill_determined", s.ill_determined},
          {"empty_steps", s.empty_steps}};
}

nlohmann::ordered_json engine_json(const Engine& engine) {
  return {{"model", engine.options().model_path},
          {"backend", engine.transformer().backend().name()},
          {"compute", engine.transformer().backend().compute()},
          {"cache_type", std::string(traits(engine.options().cache_type).name)},
          {"threads", engine.options().threads}};
}

JsonOutput::JsonOutput(const OutputOptions& options)
    : to_stdout_(options.json && options.output.empty()), path_(options.output) {
  if (path_.empty()) return;
  file_.open(path_, std::ios::binary);
  if (!file_) {
    throw Error(ErrorKind::input_output, fmt::format("cannot write {}", path_));
  }
}

void JsonOutput::write(const nlohmann::ordered_json& object) {
  const std::string text =
      object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (to_stdout_) {
    print_text(text);
    flush_stdout();
  }
  if (!file_.is_open()) return;
  file_ << text << std::flush;
  if (!file_) throw Error(ErrorKind::input_output, fmt::format("writing to {} failed", path_));
}

void print_text(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) flush_stdout();
}

void flush_stdout() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error(ErrorKind::input_output, "writing to standard output failed");
  }
}

std::string percent(const std::optional<double>& fraction) {
  return fraction ? fmt::format("{:.1f} %", 100 * *fraction) : "–";
}

}  // namespace sift::cli
