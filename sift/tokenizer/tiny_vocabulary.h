#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sift/tokenizer/byte_alphabet.h"
#include "sift/tokenizer/vocabulary.h"

namespace sift {

/// A vocabulary for tests, made by hand: all bytes, a few merges, two special tokens.
class TinyVocabulary {
 public:
  explicit TinyVocabulary(std::string pre = "smollm") : pre_(std::move(pre)) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      add(byte_to_alphabet(static_cast<std::uint8_t>(byte)), TokenType::normal);
    }
    for (const char* merge : {"h e", "l l", "he ll", "a a", "Ġ a"}) add_merge(merge);
    add("<|im_start|>", TokenType::control);
    add("<|im_end|>", TokenType::control);
  }

  void add(const std::string& token, TokenType type) {
    tokens_.push_back(token);
    types_.push_back(static_cast<std::int32_t>(type));
  }

  void add_merge(const std::string& merge) {
    const std::size_t space = merge.find(' ');
    merges_.push_back(merge);
    add(merge.substr(0, space) + merge.substr(space + 1), TokenType::normal);
  }

  void remove_byte(std::uint8_t byte) { tokens_[byte] = "removed"; }

  std::int32_t id_of(std::string_view token) const {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (tokens_[i] == token) return static_cast<std::int32_t>(i);
    }
    return -1;
  }

  std::size_t size() const { return tokens_.size(); }

  /// Points into this object.
  VocabularyData data() const {
    VocabularyData data;
    data.model = "gpt2";
    data.pre = pre_;
    data.tokens.assign(tokens_.begin(), tokens_.end());
    data.token_types = types_;
    data.merges.assign(merges_.begin(), merges_.end());
    return data;
  }

 private:
  std::string pre_;
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> types_;
  std::vector<std::string> merges_;
};

}  // namespace sift
