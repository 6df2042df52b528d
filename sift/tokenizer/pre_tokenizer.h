#pragma once

#include <string_view>
#include <vector>

#include "sift/tokenizer/regex_splitter.h"

namespace sift {

/// Cuts text into the words inside which byte pairs are merged, as the model was trained. Chosen by
/// GGUF's `tokenizer.ggml.pre`: `gpt-2`, `llama-bpe`, `qwen2`, `smollm`.
class PreTokenizer {
 public:
  /// Throws bad_file, listing the known names, when `name` is not one of them.
  explicit PreTokenizer(std::string_view name);

  /// The words of `text`, valid UTF-8, in order; together they are `text`. They point into it.
  std::vector<std::string_view> split(std::string_view text) const;

  /// Whether a word that is a token as a whole is taken as it is, before any merge (Llama 3).
  bool whole_words_first() const { return whole_words_first_; }

 private:
  std::vector<RegexSplitter> stages_;  ///< each cuts the pieces of the one before it
  bool whole_words_first_ = false;
};

}  // namespace sift
