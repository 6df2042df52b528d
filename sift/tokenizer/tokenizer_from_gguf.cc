#include "sift/tokenizer/tokenizer_from_gguf.h"

#include <fmt/format.h>

#include "sift/core/error.h"

namespace sift {
namespace {

std::vector<std::string_view> read_strings(const Gguf& gguf, std::string_view key) {
  const auto array = gguf.require<GgufArray>(key);
  if (array.element_type != GgufType::string) gguf.fail(key, "is not an array of strings");
  const GgufStrings strings = array.strings();
  return {strings.begin(), strings.end()};
}

std::vector<std::int32_t> read_types(const Gguf& gguf, std::string_view key) {
  const auto array = gguf.get<GgufArray>(key);
  if (!array) return {};
  if (array->element_type != GgufType::i32) gguf.fail(key, "is not an array of 32-bit integers");
  std::vector<std::int32_t> types;
  types.reserve(array->count);
  for (std::uint64_t i = 0; i < array->count; ++i) {
    types.push_back(static_cast<std::int32_t>(array->integer(i)));
  }
  return types;
}

}  // namespace

VocabularyData read_vocabulary(const Gguf& gguf) {
  VocabularyData data;
  data.model = gguf.require<std::string_view>("tokenizer.ggml.model");
  // Other models than byte-pair ones have neither; the tokenizer refuses them by name.
  data.pre = gguf.get<std::string_view>("tokenizer.ggml.pre").value_or("");
  if (gguf.find("tokenizer.ggml.merges")) data.merges = read_strings(gguf, "tokenizer.ggml.merges");
  data.tokens = read_strings(gguf, "tokenizer.ggml.tokens");
  data.token_types = read_types(gguf, "tokenizer.ggml.token_type");
  data.bos_id = gguf.get<std::int64_t>("tokenizer.ggml.bos_token_id");
  data.eos_id = gguf.get<std::int64_t>("tokenizer.ggml.eos_token_id");
  data.eot_id = gguf.get<std::int64_t>("tokenizer.ggml.eot_token_id");
  data.unknown_id = gguf.get<std::int64_t>("tokenizer.ggml.unknown_token_id");
  data.padding_id = gguf.get<std::int64_t>("tokenizer.ggml.padding_token_id");
  data.add_bos = gguf.get<bool>("tokenizer.ggml.add_bos_token").value_or(false);
  data.chat_template = gguf.get<std::string_view>("tokenizer.chat_template").value_or("");
  return data;
}

Tokenizer tokenizer_from_gguf(const Gguf& gguf) {
  const VocabularyData data = read_vocabulary(gguf);
  try {
    return Tokenizer(data);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", gguf.name(), error.what()));
  }
}

}  // namespace sift
