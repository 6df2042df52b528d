#pragma once

#include <cstdint>
#include <string>

#include "sift/tokenizer/text_assembler.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {

/// Decodes tokens as they come. The pieces together are what Tokenizer::decode gives for all ids,
/// and each is valid UTF-8: half a character waits for its other half.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive this.
  explicit StreamDecoder(const Tokenizer& tokenizer, ShowSpecial show = ShowSpecial::yes)
      : tokenizer_(&tokenizer), show_(show) {}

  /// The text that `id` makes certain, perhaps none. Throws invalid_argument for an id that is not
  /// in the vocabulary.
  std::string push(std::int32_t id) {
    if (show_ == ShowSpecial::no && tokenizer_->is_special(id)) return {};
    return assembler_.push(tokenizer_->token_bytes(id));
  }

  /// The end of the text: U+FFFD if a character lacks bytes, otherwise nothing.
  std::string finish() { return assembler_.finish(); }

 private:
  const Tokenizer* tokenizer_;
  ShowSpecial show_;
  TextAssembler assembler_;
};

}  // namespace sift
