#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "sift/eval/task.h"
#include "sift/eval/task_run.h"

namespace sift {

/// The completions of one run, as JSON lines: the first holds the run's settings, each further one
/// a finished sample. A line is added whole or not at all, so a run that ended anywhere goes on
/// where it stopped.
class CompletionsFile {
 public:
  /// Opens `path`, or takes it in hand to be made with the first sample. `settings`, a JSON object,
  /// is what must be the same for a run to go on; `origin`, another, is kept for the record. Throws
  /// Error: input_output for a file that cannot be written, or that another run writes now;
  /// bad_file for one that is no file of completions; invalid_argument, naming what differs, for
  /// one of a run with other settings.
  CompletionsFile(const std::string& path, const std::string& settings, const std::string& origin);
  ~CompletionsFile();
  CompletionsFile(const CompletionsFile&) = delete;
  CompletionsFile& operator=(const CompletionsFile&) = delete;

  /// Whether the sample of this index is finished.
  bool holds(std::int64_t index) const { return finished_.contains(index); }
  std::int64_t size() const { return static_cast<std::int64_t>(finished_.size()); }
  const std::string& path() const { return path_; }

  /// Adds a finished sample; once it returns, the line is on disk. Throws Error (input_output),
  /// leaving the file as it was.
  void add(const TaskSample& sample, const TaskCompletion& completion, const Policy& policy);

 private:
  void resume(const std::string& text, const std::string& settings);
  void write(const std::string& text);

  std::string path_;
  std::string header_;  ///< the first line, until it is written
  int descriptor_ = -1;
  std::int64_t size_ = 0;  ///< bytes of whole lines
  bool made_ = false;      ///< this run made the file
  std::set<std::int64_t> finished_;
};

/// What the samples of a file came to. Means of attention run over generated rows, layers and heads
/// of all samples, as a single request's do; they are empty for `full`.
struct CompletionsSummary {
  std::int64_t samples = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t generated_tokens = 0;
  std::map<std::string, std::int64_t> finish_reasons;
  std::map<std::string, std::int64_t> notices;  ///< what ran otherwise than asked, and how often
  double seconds = 0;
  std::optional<double> realised_sparsity;
  std::optional<double> realised_sparsity_after_warmup;
  std::optional<double> union_density;
  std::optional<double> kept_mass;
};

/// Throws Error: input_output, bad_file.
CompletionsSummary summarise_completions(const std::string& path);

}  // namespace sift
