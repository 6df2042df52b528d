#include "sift/eval/result_lines.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "sift/core/error.h"
#include "sift/eval/json_documents.h"

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kHeaderBegin = R"({"settings":)";

[[noreturn]] void refuse_header(const std::string& path) {
  throw Error(ErrorKind::bad_file,
              fmt::format(R"({} is no file of results: its first line has no "settings")", path));
}

/// Throws for the first setting that differs.
void compare_settings(const std::string& path, const Json& found, const Json& wanted) {
  for (const auto& [key, value] : wanted.items()) {
    const Json had = found.contains(key) ? found[key] : Json(nullptr);
    if (had == value) continue;
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("{} holds results of another run: there {} is {}, here {}; name another "
                    "place, or remove it",
                    path, key, had.dump(), value.dump()));
  }
}

}  // namespace

ResultLines::ResultLines(const std::string& path, const std::string& settings,
                         const std::string& origin)
    : path_(path) {
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    throw Error(ErrorKind::input_output, fmt::format("cannot write {}: {}", path, strerror(errno)));
  }
  try {
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      throw Error(ErrorKind::input_output, fmt::format("another run writes {} now", path));
    }
    resume(settings);
    if (size_ == 0) {
      const Json header = {{"settings", Json::parse(settings)}, {"origin", Json::parse(origin)}};
      write(header.dump());
    }
  } catch (...) {
    close(descriptor_);
    throw;
  }
}

ResultLines::~ResultLines() { close(descriptor_); }

std::string ResultLines::read_all() const {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t count = read(descriptor_, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw Error(ErrorKind::input_output,
                  fmt::format("cannot read {}: {}", path_, strerror(errno)));
    }
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

void ResultLines::resume(const std::string& settings) {
  const std::string text = read_all();
  std::size_t begin = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    const std::string line = text.substr(begin, end - begin);
    const std::size_t number = lines_.size() + (begin == 0 ? 1 : 2);
    // Numbers that JSON does not have, as NaN, are no JSON.
    const Json object = parse_json_object(line, fmt::format("{}: line {}", path_, number));
    if (begin == 0) {
      if (!object.contains("settings")) refuse_header(path_);
      compare_settings(path_, object["settings"], Json::parse(settings));
    } else {
      lines_.push_back(line);
    }
    begin = end + 1;
  }
  size_ = static_cast<std::int64_t>(begin);
  // A torn first line is written again; what never was one stays.
  if (begin == 0 && !text.starts_with(kHeaderBegin) && !kHeaderBegin.starts_with(text)) {
    refuse_header(path_);
  }
}

void ResultLines::add(const std::string& object) {
  write(object);
  lines_.push_back(object);
}

void ResultLines::write(const std::string& line) {
  const std::string text = line + "\n";
  std::size_t written = 0;
  int failure = ftruncate(descriptor_, size_) == 0 ? 0 : errno;
  while (failure == 0 && written < text.size()) {
    const ssize_t count = pwrite(descriptor_, text.data() + written, text.size() - written,
                                 size_ + static_cast<std::int64_t>(written));
    if (count >= 0) written += static_cast<std::size_t>(count);
    if (count < 0 && errno != EINTR) failure = errno;
  }
  if (failure == 0 && fsync(descriptor_) != 0 && errno != EINVAL) failure = errno;
  if (failure != 0) {
    [[maybe_unused]] const int ignored = ftruncate(descriptor_, size_);
    throw Error(ErrorKind::input_output,
                fmt::format("writing to {} failed: {}", path_, strerror(failure)));
  }
  size_ += static_cast<std::int64_t>(text.size());
}

}  // namespace sift
