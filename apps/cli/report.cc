#include "apps/cli/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "sift/core/error.h"
#include "sift/transformer/transformer.h"

namespace sift::cli {

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
  std::error_code error;
  target_ = std::filesystem::weakly_canonical(path_, error);
  if (error) target_ = path_;
  const auto status = std::filesystem::status(target_, error);
  const bool there = std::filesystem::exists(status);
  const bool dangling = !there && std::filesystem::is_symlink(target_, error);
  std::filesystem::path opened = target_;
  if (std::filesystem::is_regular_file(status) || (!there && !dangling)) opened += ".part";
  // Renaming would replace even a file that is protected against writing.
  if (!there || access(target_.c_str(), W_OK) == 0) file_.open(opened, std::ios::binary);
  if (!file_.is_open()) {
    throw Error(ErrorKind::input_output, fmt::format("cannot write {}", path_));
  }
  if (opened != target_) part_ = opened;
}

JsonOutput::~JsonOutput() {
  std::error_code ignored;
  if (!part_.empty()) std::filesystem::remove(part_, ignored);
}

void JsonOutput::write(const nlohmann::ordered_json& object) {
  const std::string text =
      object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (to_stdout_) print_text(text);
  if (!file_.is_open()) return;
  file_ << text;
  file_.close();
  if (!file_) throw Error(ErrorKind::input_output, fmt::format("writing to {} failed", path_));
  if (part_.empty()) return;
  std::error_code error;
  std::filesystem::rename(part_, target_, error);
  if (error) {
    throw Error(ErrorKind::input_output, fmt::format("cannot rename {} to {}: {}", part_.string(),
                                                     target_.string(), error.message()));
  }
  part_.clear();
}

void print_text(const std::string& text) {
  // Not through stdio, which forgets how much of its buffer a write that was interrupted has taken.
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data() + written, text.size() - written);
    if (count < 0 && errno != EINTR) {
      throw Error(ErrorKind::input_output, "writing to standard output failed");
    }
    if (count > 0) written += static_cast<std::size_t>(count);
  }
}

std::string percent(const std::optional<double>& fraction) {
  return fraction ? fmt::format("{:.1f} %", 100 * *fraction) : "–";
}

std::string mebibytes(std::int64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1024.0 * 1024.0));
}

}  // namespace sift::cli
