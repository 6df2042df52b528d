#include "sift/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "sift/core/error.h"
#include "sift/model/gguf.h"
#include "sift/tokenizer/byte_alphabet.h"
#include "sift/tokenizer/stream_decoder.h"
#include "sift/tokenizer/utf8.h"

namespace sift {
namespace {

// Files state one end-of-text token; models also end a turn with these, which their files may leave
// unnamed.
constexpr std::array<std::string_view, 8> kTurnEnds = {
    "<|im_end|>",      "<|eot_id|>", "<|eom_id|>",    "<|endoftext|>",
    "<|end_of_text|>", "<|end|>",    "<end_of_turn>", "<|return|>"};

bool is_matched_as_text(TokenType type) {
  return type == TokenType::control || type == TokenType::user_defined;
}

std::optional<std::int32_t> checked_id(std::optional<std::int64_t> id, std::size_t size,
                                       std::string_view name) {
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= static_cast<std::int64_t>(size)) {
    throw Error(
        ErrorKind::bad_file,
        fmt::format("{} is {}, expected an id below the vocabulary's size {}", name, *id, size));
  }
  return static_cast<std::int32_t>(*id);
}

void check_vocabulary(const VocabularyData& data) {
  if (data.model != "gpt2") {
    throw Error(
        ErrorKind::bad_file,
        fmt::format("the tokenizer '{}' (tokenizer.ggml.model) is not supported: known is gpt2",
                    printable(data.model)));
  }
  if (data.tokens.empty() || data.tokens.size() > std::numeric_limits<std::int32_t>::max()) {
    throw Error(
        ErrorKind::bad_file,
        fmt::format("the vocabulary has {} tokens, expected 1 to 2^31 - 1", data.tokens.size()));
  }
  if (!data.token_types.empty() && data.token_types.size() != data.tokens.size()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("tokenizer.ggml.token_type has {} entries for {} tokens",
                            data.token_types.size(), data.tokens.size()));
  }
}

/// A special token inside valid UTF-8 must leave valid UTF-8 on both sides.
void check_special(std::string_view text, std::int32_t id) {
  if (utf8::find_invalid(text) == std::string_view::npos) return;
  throw Error(ErrorKind::bad_file, fmt::format("the text of special token {} is not UTF-8", id));
}

void check_text(std::span<const TextSegment> segments) {
  std::size_t total = 0;
  for (const TextSegment& segment : segments) {
    const std::size_t invalid = utf8::find_invalid(segment.text);
    if (invalid != std::string_view::npos) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("the text is not UTF-8: byte 0x{:02X} at offset {}",
                              static_cast<std::uint8_t>(segment.text[invalid]), total + invalid));
    }
    total += segment.text.size();
  }
  if (total > Tokenizer::kMaxTextBytes) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("the text has {} bytes, expected at most {}", total, Tokenizer::kMaxTextBytes));
  }
}

TokenType type_of(const VocabularyData& data, std::size_t id) {
  if (data.token_types.empty()) return TokenType::normal;
  const std::int32_t type = data.token_types[id];
  if (type < static_cast<std::int32_t>(TokenType::normal) ||
      type > static_cast<std::int32_t>(TokenType::byte)) {
    throw Error(
        ErrorKind::bad_file,
        fmt::format("token {} has type {} (tokenizer.ggml.token_type), expected 1 to 6", id, type));
  }
  return static_cast<TokenType>(type);
}

using TokenIds = std::unordered_map<std::string_view, std::int32_t>;

TokenIds index_tokens(const VocabularyData& data) {
  TokenIds ids;
  ids.reserve(data.tokens.size());
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const auto [other, is_new] = ids.try_emplace(data.tokens[i], static_cast<std::int32_t>(i));
    if (!is_new) {
      throw Error(ErrorKind::bad_file, fmt::format("tokens {} and {} have the same text '{}'",
                                                   other->second, i, printable(data.tokens[i])));
    }
  }
  return ids;
}

/// The id of a part of a merge, which must be in the vocabulary.
std::int32_t merge_part(const TokenIds& ids, std::string_view part, std::size_t rank) {
  const auto found = ids.find(part);
  if (found != ids.end()) return found->second;
  throw Error(ErrorKind::bad_file,
              fmt::format("merge {} (tokenizer.ggml.merges) names '{}', which is not a token", rank,
                          printable(part)));
}

}  // namespace

Tokenizer::Tokenizer(const VocabularyData& data)
    : pre_tokenizer_((check_vocabulary(data), data.pre)),
      bos_id_(checked_id(data.bos_id, data.tokens.size(), "tokenizer.ggml.bos_token_id")),
      eos_id_(checked_id(data.eos_id, data.tokens.size(), "tokenizer.ggml.eos_token_id")),
      padding_id_(
          checked_id(data.padding_id, data.tokens.size(), "tokenizer.ggml.padding_token_id")),
      add_bos_(data.add_bos),
      chat_template_(data.chat_template) {
  checked_id(data.unknown_id, data.tokens.size(), "tokenizer.ggml.unknown_token_id");
  if (add_bos_ && !bos_id_) {
    throw Error(ErrorKind::bad_file,
                "tokenizer.ggml.add_bos_token is true, but tokenizer.ggml.bos_token_id is missing");
  }
  load_tokens(data);
  load_merges(data);
  load_end_of_generation(data);
}

void Tokenizer::load_tokens(const VocabularyData& data) {
  bytes_.reserve(data.tokens.size());
  types_.reserve(data.tokens.size());
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    types_.push_back(type_of(data, i));
    if (is_matched_as_text(types_.back())) {
      bytes_.emplace_back(data.tokens[i]);
      check_special(bytes_.back(), id);
      special_.add(bytes_.back(), id);
      specials_.emplace(bytes_.back(), id);
      continue;
    }
    const auto bytes = alphabet_to_bytes(data.tokens[i]);
    bytes_.push_back(bytes.value_or(std::string(data.tokens[i])));
    const bool spells = bytes && types_.back() == TokenType::normal;
    if (spells && bytes->size() == 1) pairs_.set_byte(static_cast<std::uint8_t>((*bytes)[0]), id);
    if (spells && pre_tokenizer_.whole_words_first()) words_.emplace(bytes_.back(), id);
  }
}

void Tokenizer::load_merges(const VocabularyData& data) {
  const TokenIds ids = index_tokens(data);
  for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
    const std::string_view merge = data.merges[rank];
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("merge {} (tokenizer.ggml.merges) is '{}', expected "
                              "two tokens with a space between",
                              rank, printable(merge)));
    }
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    const std::int32_t left_id = merge_part(ids, left, rank),
                       right_id = merge_part(ids, right, rank);
    const std::int32_t merged = merge_part(ids, std::string(left) + std::string(right), rank);
    if (bytes_[merged] != bytes_[left_id] + bytes_[right_id]) {
      throw Error(
          ErrorKind::bad_file,
          fmt::format("merge {} (tokenizer.ggml.merges) gives token {}, which is other text", rank,
                      merged));
    }
    pairs_.add_merge(left_id, right_id, merged);
  }
}

void Tokenizer::load_end_of_generation(const VocabularyData& data) {
  const auto eot = checked_id(data.eot_id, data.tokens.size(), "tokenizer.ggml.eot_token_id");
  for (const auto& id : {eos_id_, eot}) {
    if (id) end_of_generation_.push_back(*id);
  }
  for (std::string_view text : kTurnEnds) {
    if (const auto id = find_special(text)) end_of_generation_.push_back(*id);
  }
  std::sort(end_of_generation_.begin(), end_of_generation_.end());
  end_of_generation_.erase(std::unique(end_of_generation_.begin(), end_of_generation_.end()),
                           end_of_generation_.end());
}

void Tokenizer::check_spelling(std::string_view text) const {
  const auto missing = std::find_if(text.begin(), text.end(), [&](char byte) {
    return pairs_.byte_id(static_cast<std::uint8_t>(byte)) == BytePairEncoder::kNoToken;
  });
  if (missing == text.end()) return;
  throw Error(
      ErrorKind::invalid_argument,
      fmt::format("the text holds the byte 0x{:02X}, for which this vocabulary has no token",
                  static_cast<std::uint8_t>(*missing)));
}

void Tokenizer::encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const {
  check_spelling(text);
  BytePairEncoder::Workspace workspace;
  for (std::string_view word : pre_tokenizer_.split(text)) {
    if (pre_tokenizer_.whole_words_first()) {
      const auto whole = words_.find(word);
      if (whole != words_.end()) {
        ids.push_back(whole->second);
        continue;
      }
    }
    pairs_.encode(word, workspace, ids);
  }
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, ParseSpecial parse) const {
  const TextSegment segment{std::string(text), parse == ParseSpecial::no};
  return encode(std::span(&segment, 1));
}

std::vector<std::int32_t> Tokenizer::encode(std::span<const TextSegment> segments) const {
  std::vector<std::int32_t> ids;
  std::string plain;  // since the last special token
  const auto flush_plain = [&] {
    encode_plain(plain, ids);
    plain.clear();
  };
  check_text(segments);
  for (const TextSegment& segment : segments) {
    std::size_t done = 0;
    if (!segment.is_content) {
      for (const SpecialTokens::Match& match : special_.find_all(segment.text)) {
        plain += segment.text.substr(done, match.begin - done);
        flush_plain();
        ids.push_back(match.id);
        done = match.begin + match.length;
      }
    }
    plain += segment.text.substr(done);
  }
  flush_plain();
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode_prompt(std::string_view text,
                                                   ParseSpecial parse) const {
  std::vector<std::int32_t> ids = encode(text, parse);
  if (ids.empty())
    throw Error(ErrorKind::invalid_argument, "the prompt is empty, expected some text");
  if (add_bos_ && ids.front() != *bos_id_) ids.insert(ids.begin(), *bos_id_);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, ShowSpecial show) const {
  StreamDecoder decoder(*this, show);
  std::string text;
  for (std::int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

void Tokenizer::check_id(std::int32_t id) const {
  if (id >= 0 && id < size()) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("token id {} is not in the vocabulary of {} tokens", id, size()));
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  check_id(id);
  return bytes_[id];
}

bool Tokenizer::is_special(std::int32_t id) const {
  check_id(id);
  return types_[id] == TokenType::control;
}

bool Tokenizer::ends_generation(std::int32_t id) const {
  return std::binary_search(end_of_generation_.begin(), end_of_generation_.end(), id);
}

std::optional<std::int32_t> Tokenizer::find_special(std::string_view text) const {
  const auto found = specials_.find(text);
  return found != specials_.end() ? std::optional(found->second) : std::nullopt;
}

void Tokenizer::require_embedding_rows(std::int64_t rows) const {
  if (rows == size()) return;
  throw Error(ErrorKind::bad_file,
              fmt::format("the embedding has {} rows for a vocabulary of {} tokens", rows, size()));
}

}  // namespace sift
