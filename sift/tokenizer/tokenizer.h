#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sift/tokenizer/byte_pair_encoder.h"
#include "sift/tokenizer/pre_tokenizer.h"
#include "sift/tokenizer/special_tokens.h"
#include "sift/tokenizer/text_segment.h"
#include "sift/tokenizer/vocabulary.h"

namespace sift {

/// Whether the text of special tokens (`<|im_end|>`) in a text means the tokens or is plain text.
enum class ParseSpecial : bool { no, yes };

/// Whether decoded text shows special tokens or leaves them out.
enum class ShowSpecial : bool { no, yes };

/// A byte-level byte-pair tokenizer. Immutable once built, so one serves all threads. Encoding is
/// exact: decode(encode(text)) is `text`, and a text that the vocabulary cannot spell is refused.
class Tokenizer {
 public:
  static constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

  /// Throws bad_file when `data` is not a whole, consistent byte-level vocabulary.
  explicit Tokenizer(const VocabularyData& data);

  Tokenizer(Tokenizer&&) noexcept = default;
  Tokenizer& operator=(Tokenizer&&) noexcept = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// The tokens of `text`; no beginning-of-text token is added. Throws invalid_argument when `text`
  /// is not UTF-8 or holds a byte that has no token.
  std::vector<std::int32_t> encode(std::string_view text, ParseSpecial parse) const;

  /// The tokens of a prompt put together from `segments`: special tokens are recognised inside what
  /// the template wrote; the text between them is encoded as one, across the segments' borders.
  std::vector<std::int32_t> encode(std::span<const TextSegment> segments) const;

  /// As encode(), with the beginning-of-text token in front if the model asks for one and the text
  /// does not begin with it. Throws invalid_argument when nothing but that token would result.
  std::vector<std::int32_t> encode_prompt(std::string_view text, ParseSpecial parse) const;

  /// The text of `ids` as valid UTF-8 (see TextAssembler). Throws invalid_argument for an id that
  /// is not in the vocabulary.
  std::string decode(std::span<const std::int32_t> ids, ShowSpecial show = ShowSpecial::yes) const;

  /// The bytes of one token, not always whole characters. Throws as decode() does.
  std::string_view token_bytes(std::int32_t id) const;

  /// Whether `id` is a control token, such as `<|im_start|>`. Throws as decode() does.
  bool is_special(std::int32_t id) const;

  /// Whether a model that generates `id` has ended its turn or text.
  bool ends_generation(std::int32_t id) const;

  /// The ids of which ends_generation() is true, ascending.
  std::span<const std::int32_t> end_of_generation_ids() const { return end_of_generation_; }

  /// The id of a special token by its text.
  std::optional<std::int32_t> find_special(std::string_view text) const;

  std::int32_t size() const { return static_cast<std::int32_t>(bytes_.size()); }
  std::optional<std::int32_t> bos_id() const { return bos_id_; }
  std::optional<std::int32_t> eos_id() const { return eos_id_; }
  std::optional<std::int32_t> padding_id() const { return padding_id_; }
  bool adds_bos() const { return add_bos_; }
  const std::string& chat_template() const { return chat_template_; }

  /// Throws bad_file unless the embedding has a row for each token and no other.
  void require_embedding_rows(std::int64_t rows) const;

 private:
  void load_tokens(const VocabularyData& data);
  void load_merges(const VocabularyData& data);
  void load_end_of_generation(const VocabularyData& data);
  void check_id(std::int32_t id) const;
  void check_spelling(std::string_view text) const;
  void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const;

  PreTokenizer pre_tokenizer_;
  SpecialTokens special_;
  BytePairEncoder pairs_;
  std::vector<std::string> bytes_;  ///< [vocabulary]
  std::vector<TokenType> types_;    ///< [vocabulary]
  // Both maps' keys are elements of bytes_.
  std::unordered_map<std::string_view, std::int32_t> words_;     ///< where whole words come first
  std::unordered_map<std::string_view, std::int32_t> specials_;  ///< the texts of special tokens
  std::vector<std::int32_t> end_of_generation_;
  std::optional<std::int32_t> bos_id_, eos_id_, padding_id_;
  bool add_bos_ = false;
  std::string chat_template_;
};

}  // namespace sift
