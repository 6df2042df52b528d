#include "sift/eval/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "sift/core/error.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

using Json = nlohmann::json;

/// The string of a member, if it is there and one.
std::optional<std::string> find_string(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

[[noreturn]] void refuse_line(std::string_view name, std::int64_t line, std::string_view expected) {
  throw Error(ErrorKind::bad_file,
              fmt::format("line {} of {}: expected a JSON object with {}", line, name, expected));
}

/// Calls `take` with the object of each line that is not empty, and the line's number from 1.
void for_each_line(std::string_view name, std::string_view text, std::string_view expected,
                   const std::function<void(const Json&, std::int64_t)>& take) {
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) refuse_line(name, number, expected);
    take(object, number);
  }
}

void append(std::vector<std::int32_t>& tokens, const std::vector<std::int32_t>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

std::vector<std::int32_t> document_tokens(const Engine& engine, std::string_view name,
                                          std::string_view text) {
  constexpr std::string_view kExpected = R"("text", or "prefix" and "gold_completion")";
  const Tokenizer& tokenizer = engine.tokenizer();
  if (!tokenizer.eos_id()) {
    throw Error(ErrorKind::bad_file, fmt::format("the model names no end-of-text token, which the "
                                                 "documents of {} are parted with",
                                                 name));
  }
  std::vector<std::int32_t> tokens;
  for_each_line(name, text, kExpected, [&](const Json& object, std::int64_t line) {
    std::optional<std::string> document = find_string(object, "text");
    const std::optional<std::string> prefix = find_string(object, "prefix");
    const std::optional<std::string> completion = find_string(object, "gold_completion");
    if (!document && prefix && completion) document = *prefix + *completion;
    if (!document) refuse_line(name, line, kExpected);
    append(tokens, tokenizer.encode(*document, ParseSpecial::no));
    tokens.push_back(*tokenizer.eos_id());
  });
  return tokens;
}

/// The tokens as they were generated, where the object holds them: encoding their text again may
/// cut it otherwise.
std::vector<std::int32_t> completion_tokens(const Tokenizer& tokenizer, const Json& object,
                                            const std::string& completion) {
  const auto ids = object.find("token_ids");
  if (ids == object.end()) return tokenizer.encode(completion, ParseSpecial::yes);
  std::vector<std::int32_t> tokens;
  for (const Json& id : *ids) {
    if (!id.is_number_integer() || id < 0 || id >= tokenizer.size()) {
      throw Error(ErrorKind::bad_file, fmt::format("token id {} of a completion, expected 0 to {}",
                                                   id.dump(), tokenizer.size() - 1));
    }
    tokens.push_back(id.get<std::int32_t>());
  }
  return tokens;
}

ForcedTokens completion_request(const Tokenizer& tokenizer, const std::string& prompt,
                                const std::vector<std::int32_t>& completion) {
  ForcedTokens request;
  request.tokens = tokenizer.encode_prompt(prompt, ParseSpecial::yes);
  request.prompt_tokens = std::ssize(request.tokens);
  append(request.tokens, completion);
  return request;
}

}  // namespace

std::vector<std::int32_t> corpus_tokens(const Engine& engine, std::string_view name,
                                        std::string_view text) {
  std::vector<std::int32_t> tokens = name.ends_with(".jsonl")
                                         ? document_tokens(engine, name, text)
                                         : engine.tokenizer().encode(text, ParseSpecial::yes);
  if (tokens.empty()) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} is empty, expected a text", name));
  }
  return tokens;
}

std::string fingerprint(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char byte : text) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
  }
  return fmt::format("{:016x}", hash);
}

std::vector<ForcedTokens> cut_windows(std::span<const std::int32_t> tokens, std::int64_t context,
                                      std::int64_t windows) {
  const std::int64_t available = std::ssize(tokens) / context;
  if (available == 0 || windows > available) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} windows of {} tokens asked for, but the text has {} tokens, enough "
                            "for {}",
                            windows, context, tokens.size(), available));
  }
  std::vector<ForcedTokens> requests;
  for (std::int64_t index = 0; index < (windows == 0 ? available : windows); ++index) {
    const auto first = tokens.begin() + index * context;
    requests.push_back({{first, first + context}, 0});
  }
  return requests;
}

std::vector<ForcedTokens> completion_requests(const Engine& engine, std::string_view name,
                                              std::string_view text) {
  constexpr std::string_view kExpected = R"("prompt" and "completion")";
  std::vector<ForcedTokens> requests;
  for_each_line(name, text, kExpected, [&](const Json& object, std::int64_t line) {
    if (line == 1 && !object.contains("prompt") && !object.contains("completion")) return;
    const std::optional<std::string> prompt = find_string(object, "prompt");
    const std::optional<std::string> completion = find_string(object, "completion");
    if (!prompt || !completion) refuse_line(name, line, kExpected);
    const std::vector<std::int32_t> tokens =
        completion_tokens(engine.tokenizer(), object, *completion);
    if (tokens.empty()) return;
    requests.push_back(completion_request(engine.tokenizer(), *prompt, tokens));
  });
  if (requests.empty()) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} holds no completion", name));
  }
  return requests;
}

}  // namespace sift
