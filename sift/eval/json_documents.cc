#include "sift/eval/json_documents.h"

#include <fmt/format.h>

#include <algorithm>

#include "sift/core/error.h"

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaximumDepth = 64;
constexpr std::string_view kSpace = " \t\r\n";

[[noreturn]] void refuse(const std::string& where, std::string_view what) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", where, what));
}

/// Throws Json::parse_error, and Error for what nests too deeply.
Json parse(std::string_view text, const std::string& where) {
  const auto bounded = [&](int depth, Json::parse_event_t, const Json&) {
    if (depth > kMaximumDepth) {
      refuse(where, fmt::format("JSON nested deeper than {}", kMaximumDepth));
    }
    return true;
  };
  try {
    return Json::parse(text, bounded);
  } catch (const Json::out_of_range&) {
    refuse(where, "a number is beyond the range of doubles");
  }
}

std::int64_t line_of(std::string_view text, std::size_t offset) {
  return 1 + std::count(text.begin(), text.begin() + std::min(offset, text.size()), '\n');
}

std::vector<JsonDocument> read_array(const TaskFile& file) {
  Json array;
  try {
    array = parse(file.text, file.name);
  } catch (const Json::parse_error& error) {
    const std::size_t before = error.byte == 0 ? 0 : error.byte - 1;
    refuse(fmt::format("{}: line {}", file.name, line_of(file.text, before)), "not JSON");
  }
  std::vector<JsonDocument> documents;
  for (Json& value : array) {
    const auto index = static_cast<std::int64_t>(documents.size());
    const std::string where = fmt::format("{}: element {}", file.name, index + 1);
    if (!value.is_object()) refuse(where, "expected a JSON object");
    documents.push_back({std::move(value), index, where});
  }
  return documents;
}

std::vector<JsonDocument> read_lines(const TaskFile& file) {
  std::vector<JsonDocument> documents;
  const std::string_view text = file.text;
  std::int64_t line = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view content = text.substr(begin, end - begin);
    const std::string where = fmt::format("{}: line {}", file.name, ++line);
    begin = end + 1;
    if (content.find_first_not_of(kSpace) == std::string_view::npos) continue;
    const auto index = static_cast<std::int64_t>(documents.size());
    documents.push_back({parse_json_object(content, where), index, where});
  }
  return documents;
}

}  // namespace

nlohmann::ordered_json parse_json_object(std::string_view text, const std::string& where) {
  try {
    Json value = parse(text, where);
    if (!value.is_object()) refuse(where, "expected a JSON object");
    return value;
  } catch (const Json::parse_error& error) {
    refuse(where, fmt::format("not JSON from byte {} on, expected one object", error.byte));
  }
}

std::vector<JsonDocument> read_json_documents(const TaskFile& file) {
  const std::size_t first = file.text.find_first_not_of(kSpace);
  const bool array = first != std::string::npos && file.text[first] == '[';
  std::vector<JsonDocument> documents = array ? read_array(file) : read_lines(file);
  if (documents.empty()) {
    refuse(file.name, "holds no sample, expected JSON lines or an array of objects");
  }
  return documents;
}

const nlohmann::ordered_json& member(const JsonDocument& document, const char* key) {
  const auto found = document.value.find(key);
  if (found == document.value.end()) {
    refuse(document.where, fmt::format("key '{}' is missing", key));
  }
  return *found;
}

std::string text_member(const JsonDocument& document, const char* key) {
  const Json& value = member(document, key);
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    refuse_member(document, key, "a text that is not empty");
  }
  return value.get<std::string>();
}

void refuse_member(const JsonDocument& document, const char* key, std::string_view expected) {
  std::string shown = member(document, key).dump();
  constexpr std::size_t kShown = 40;
  // What a cut leaves of a character would not be UTF-8.
  if (shown.size() > kShown) shown = member(document, key).type_name();
  refuse(document.where, fmt::format("key '{}' is {}, expected {}", key, shown, expected));
}

}  // namespace sift
