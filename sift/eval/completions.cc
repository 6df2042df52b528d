#include "sift/eval/completions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "sift/core/error.h"
#include "sift/eval/attention_json.h"
#include "sift/eval/json_documents.h"

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

/// How the first line begins.
constexpr std::string_view kBegin = R"({"settings":)";

[[noreturn]] void refuse_file(const std::string& path, std::string_view what) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", path, what));
}

[[noreturn]] void fail_to(std::string_view what, const std::string& path) {
  throw Error(ErrorKind::input_output,
              fmt::format("cannot {} {}: {}", what, path, std::strerror(errno)));
}

std::string read_all(int descriptor, const std::string& path) {
  std::string text;
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(descriptor, buffer, sizeof(buffer));
    if (count == 0) return text;
    if (count > 0) text.append(buffer, static_cast<std::size_t>(count));
    if (count < 0 && errno != EINTR) fail_to("read", path);
  }
}

std::string line_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// The lines of a file of completions; the last, if it was cut off, is left out.
std::vector<JsonDocument> read_lines(const std::string& text, const std::string& path) {
  std::vector<JsonDocument> lines;
  for (std::size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos;) {
    const auto index = static_cast<std::int64_t>(lines.size());
    const std::string where = fmt::format("{}: line {}", path, index + 1);
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    lines.push_back({parse_json_object(line, where), index, where});
    begin = end + 1;
  }
  return lines;
}

/// Whether `text` could be what is left of a first line that was cut off.
bool begins_as_ours(std::string_view text) {
  return text.substr(0, kBegin.size()) == kBegin.substr(0, text.size());
}

std::int64_t integer_member(const JsonDocument& line, const char* key) {
  const Json& value = member(line, key);
  if (!value.is_number_integer()) refuse_member(line, key, "an integer");
  return value.get<std::int64_t>();
}

double number_member(const JsonDocument& line, const char* key) {
  const Json& value = member(line, key);
  if (!value.is_number()) refuse_member(line, key, "a number");
  return value.get<double>();
}

std::string shown(const Json& settings, const std::string& key) {
  const auto found = settings.find(key);
  if (found == settings.end()) return "not there";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// "attention is full there and sift here", for everything that differs.
std::vector<std::string> differences(const Json& there, const Json& here) {
  std::vector<std::string> found;
  Json all = there;
  all.update(here);
  for (const auto& [key, value] : all.items()) {
    const std::string old_value = shown(there, key);
    const std::string new_value = shown(here, key);
    if (old_value == new_value) continue;
    found.push_back(fmt::format("{} is {} there and {} here", key, old_value, new_value));
  }
  return found;
}

Json sample_json(const TaskSample& sample, const TaskCompletion& completion, const Policy& policy) {
  const GenerationResult& result = completion.generation;
  return {{"index", sample.index},
          {"prompt", completion.prompt},
          {"completion", result.text},
          {"token_ids", result.token_ids},
          {"finish_reason", std::string(name(result.finish_reason))},
          {"prompt_tokens", result.prompt_tokens},
          {"generated_tokens", result.generated_tokens},
          {"prefill_seconds", result.prefill_seconds},
          {"decode_seconds", result.decode_seconds},
          {"notice", result.notice},
          {"rows", result.attention.heads.rows},
          {"rows_after_warmup", result.attention.heads.rows_after_warmup},
          {"attention", attention_json(policy, result.attention)},
          {"document", Json::parse(sample.document)}};
}

/// A mean over rows of many samples.
class WeightedMean {
 public:
  explicit WeightedMean(const char* key) : key_(key) {}

  void add(const JsonDocument& line, const Json& attention, double rows) {
    const auto value = attention.find(key_);
    if (value == attention.end() || value->is_null()) return;
    if (!value->is_number()) refuse_member(line, "attention", "an object of numbers");
    sum_ += rows * value->get<double>();
    rows_ += rows;
  }

  std::optional<double> value() const {
    if (rows_ == 0) return std::nullopt;
    return sum_ / rows_;
  }

 private:
  const char* key_;
  double sum_ = 0;
  double rows_ = 0;
};

}  // namespace

CompletionsFile::CompletionsFile(const std::string& path, const std::string& settings,
                                 const std::string& origin)
    : path_(path) {
  struct stat before = {};
  made_ = ::stat(path.c_str(), &before) != 0;
  if (!made_ && !S_ISREG(before.st_mode)) {
    throw Error(ErrorKind::input_output,
                fmt::format("cannot write {}: it is there and no file", path));
  }
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_to("write", path);
  try {
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      throw Error(ErrorKind::input_output,
                  fmt::format("cannot write {}: another run is writing it", path));
    }
    header_ = line_text({{"settings", Json::parse(settings)}, {"origin", Json::parse(origin)}});
    resume(read_all(descriptor_, path), settings);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

CompletionsFile::~CompletionsFile() {
  // What was made for a run that finished no sample is nobody's.
  if (made_ && size_ == 0) ::unlink(path_.c_str());
  ::close(descriptor_);
}

void CompletionsFile::resume(const std::string& text, const std::string& settings) {
  size_ = static_cast<std::int64_t>(text.rfind('\n') + 1);  // npos + 1 is 0
  if (!begins_as_ours(text)) {
    refuse_file(path_,
                "line 1 does not hold the settings of a run, so this is no file of "
                "completions, and it stays as it is");
  }
  const std::vector<JsonDocument> lines = read_lines(text, path_);
  if (lines.empty()) return;
  const Json& there = member(lines.front(), "settings");
  if (!there.is_object()) refuse_member(lines.front(), "settings", "an object");
  const auto found = differences(there, Json::parse(settings));
  if (!found.empty()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} holds another run: {}", path_, fmt::join(found, "; ")));
  }
  header_.clear();
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const std::int64_t index = integer_member(lines[i], "index");
    if (finished_.insert(index).second) continue;
    refuse_member(lines[i], "index", "one that no line before has");
  }
}

void CompletionsFile::add(const TaskSample& sample, const TaskCompletion& completion,
                          const Policy& policy) {
  write(header_ + line_text(sample_json(sample, completion, policy)));
  header_.clear();
  finished_.insert(sample.index);
}

void CompletionsFile::write(const std::string& text) {
  std::size_t written = 0;
  bool failed = ::ftruncate(descriptor_, size_) != 0;  // a line that was cut off goes
  while (!failed && written < text.size()) {
    const ssize_t count = ::pwrite(descriptor_, text.data() + written, text.size() - written,
                                   static_cast<off_t>(size_ + static_cast<std::int64_t>(written)));
    failed = count < 0 && errno != EINTR;
    if (count > 0) written += static_cast<std::size_t>(count);
  }
  if (failed || ::fdatasync(descriptor_) != 0) {
    const int reason = errno;
    if (::ftruncate(descriptor_, size_) == 0) errno = reason;
    fail_to("write", path_);
  }
  size_ += static_cast<std::int64_t>(text.size());
}

CompletionsSummary summarise_completions(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_to("read", path);
  std::string text;
  try {
    text = read_all(descriptor, path);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
  const std::vector<JsonDocument> lines = read_lines(text, path);
  if (lines.empty()) refuse_file(path, "is empty, expected a file of completions");
  member(lines.front(), "settings");
  CompletionsSummary summary;
  WeightedMean sparsity("realised_sparsity");
  WeightedMean after_warmup("realised_sparsity_after_warmup");
  WeightedMean density("union_density");
  WeightedMean mass("kept_mass");
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const JsonDocument& line = lines[i];
    summary.samples += 1;
    summary.prompt_tokens += integer_member(line, "prompt_tokens");
    summary.generated_tokens += integer_member(line, "generated_tokens");
    summary.finish_reasons[text_member(line, "finish_reason")] += 1;
    const Json& notice = member(line, "notice");
    if (!notice.is_string()) refuse_member(line, "notice", "a text");
    if (notice != "") summary.notices[notice.get<std::string>()] += 1;
    summary.seconds +=
        number_member(line, "prefill_seconds") + number_member(line, "decode_seconds");
    const Json& attention = member(line, "attention");
    if (!attention.is_object()) refuse_member(line, "attention", "an object");
    sparsity.add(line, attention, number_member(line, "rows"));
    const double rows = number_member(line, "rows_after_warmup");
    for (WeightedMean* mean : {&after_warmup, &density, &mass}) mean->add(line, attention, rows);
  }
  summary.realised_sparsity = sparsity.value();
  summary.realised_sparsity_after_warmup = after_warmup.value();
  summary.union_density = density.value();
  summary.kept_mass = mass.value();
  return summary;
}

}  // namespace sift
