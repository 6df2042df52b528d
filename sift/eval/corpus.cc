#include "sift/eval/corpus.h"

#include <fmt/format.h>

#include <optional>
#include <string>

#include "sift/core/error.h"
#include "sift/eval/json_documents.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

/// The string of a member, if it is there and one.
std::optional<std::string> find_string(const JsonDocument& document, const char* key) {
  const auto found = document.value.find(key);
  if (found == document.value.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

[[noreturn]] void refuse(const JsonDocument& document, std::string_view expected) {
  throw Error(ErrorKind::bad_file,
              fmt::format("{}: expected a JSON object with {}", document.where, expected));
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
  for (const JsonDocument& line : read_json_documents({std::string(name), std::string(text)})) {
    std::optional<std::string> document = find_string(line, "text");
    const std::optional<std::string> prefix = find_string(line, "prefix");
    const std::optional<std::string> completion = find_string(line, "gold_completion");
    if (!document && prefix && completion) document = *prefix + *completion;
    if (!document) refuse(line, kExpected);
    append(tokens, tokenizer.encode(*document, ParseSpecial::no));
    tokens.push_back(*tokenizer.eos_id());
  }
  return tokens;
}

/// The tokens as they were generated, where the object holds them: encoding their text again may
/// cut it otherwise.
std::vector<std::int32_t> completion_tokens(const Tokenizer& tokenizer, const JsonDocument& line,
                                            const std::string& completion) {
  const auto ids = line.value.find("token_ids");
  if (ids == line.value.end()) return tokenizer.encode(completion, ParseSpecial::yes);
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
  for (const JsonDocument& line : read_json_documents({std::string(name), std::string(text)})) {
    const bool is_header = !line.value.contains("prompt") && !line.value.contains("completion");
    if (line.index == 0 && is_header) continue;
    const std::optional<std::string> prompt = find_string(line, "prompt");
    const std::optional<std::string> completion = find_string(line, "completion");
    if (!prompt || !completion) refuse(line, kExpected);
    const std::vector<std::int32_t> tokens =
        completion_tokens(engine.tokenizer(), line, *completion);
    if (!tokens.empty()) {
      requests.push_back(completion_request(engine.tokenizer(), *prompt, tokens));
    }
  }
  if (requests.empty()) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} holds no completion", name));
  }
  return requests;
}

}  // namespace sift
