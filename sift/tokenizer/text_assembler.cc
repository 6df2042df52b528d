#include "sift/tokenizer/text_assembler.h"

#include "sift/tokenizer/utf8.h"

namespace sift {

std::string TextAssembler::push(std::string_view bytes) {
  pending_ += bytes;
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const utf8::Step step = utf8::decode_first(rest);
    if (step.status == utf8::Status::incomplete) break;
    const bool whole = step.status == utf8::Status::character;
    text += whole ? rest.substr(0, step.length) : utf8::kReplacement;
    rest.remove_prefix(step.length);
  }
  pending_ = std::string(rest);
  return text;
}

std::string TextAssembler::finish() {
  std::string text(pending_.empty() ? std::string_view() : utf8::kReplacement);
  pending_.clear();
  return text;
}

}  // namespace sift
