#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "sift/eval/task.h"

namespace sift {

/// A JSON object of a file that holds many.
// NOLINTNEXTLINE(bugprone-exception-escape): moving a JSON value throws nothing, but does not say
// so
struct JsonDocument {
  nlohmann::ordered_json value;
  std::int64_t index = 0;  ///< from 0
  std::string where;       ///< "test.jsonl: line 3"
};

/// The value that `text` states; `where` names it in messages. Throws Error (bad_file) for what is
/// not JSON, nests beyond 64, or is not an object.
nlohmann::ordered_json parse_json_object(std::string_view text, const std::string& where);

/// The objects of a file of JSON lines (blank ones left out) or of one JSON array. Throws Error
/// (bad_file) naming the line, and for a file without objects.
std::vector<JsonDocument> read_json_documents(const TaskFile& file);

/// Members of a document. Each throws Error (bad_file) naming place and key when it is missing or
/// of another type; a text must not be empty.
const nlohmann::ordered_json& member(const JsonDocument& document, const char* key);
std::string text_member(const JsonDocument& document, const char* key);

/// Says of `key` what was expected.
[[noreturn]] void refuse_member(const JsonDocument& document, const char* key,
                                std::string_view expected);

}  // namespace sift
