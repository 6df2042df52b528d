#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sift {

/// GGUF's `tokenizer.ggml.token_type`.
enum class TokenType : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

/// A vocabulary as a model file states it, in plain data. The id of a token is its index. The views
/// must outlive the construction of a Tokenizer, which copies what it needs.
struct VocabularyData {
  std::string model;                      ///< `tokenizer.ggml.model`; "gpt2" is byte-level BPE
  std::string pre;                        ///< `tokenizer.ggml.pre`, see PreTokenizer
  std::vector<std::string_view> tokens;   ///< [vocabulary], in the byte alphabet
  std::vector<std::int32_t> token_types;  ///< [vocabulary], or empty: all normal
  std::vector<std::string_view> merges;   ///< "left right", the first ranks highest
  std::optional<std::int64_t> bos_id;     ///< begins a text
  std::optional<std::int64_t> eos_id;     ///< ends a text
  std::optional<std::int64_t> eot_id;     ///< ends a turn of a conversation
  std::optional<std::int64_t> unknown_id;
  std::optional<std::int64_t> padding_id;
  bool add_bos = false;       ///< whether a prompt begins with `bos_id`
  std::string chat_template;  ///< Jinja source; empty: none
};

}  // namespace sift
