#pragma once

#include "sift/model/gguf.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/tokenizer/vocabulary.h"

namespace sift {

/// The vocabulary in a file's `tokenizer.*` metadata, as views into the file. Throws bad_file when
/// a key is missing or of another type than expected.
VocabularyData read_vocabulary(const Gguf& gguf);

/// The tokenizer of a file. Throws bad_file as read_vocabulary() and Tokenizer() do, naming the
/// file.
Tokenizer tokenizer_from_gguf(const Gguf& gguf);

}  // namespace sift
