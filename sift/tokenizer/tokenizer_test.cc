#include "sift/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "sift/core/error.h"
#include "sift/tokenizer/stream_decoder.h"
#include "sift/tokenizer/tiny_vocabulary.h"

namespace sift {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename Function>
void expect_error(ErrorKind kind, const std::string& part, Function&& function) {
  try {
    function();
    ADD_FAILURE() << "expected an error with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

std::string decode_in_pieces(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (std::int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  const auto text_of = [&](std::int32_t id) { return tokenizer.token_bytes(id); };
  std::vector<std::string_view> parts;
  for (std::int32_t id : tokenizer.encode("hello aaaaa", ParseSpecial::no))
    parts.push_back(text_of(id));
  EXPECT_THAT(parts, ElementsAre("hell", "o", " ", "aa", "aa", "a"));
}

TEST(Tokenizer, SpecialTextIsATokenOnlyWhereAsked) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  const std::int32_t start = *tokenizer.find_special("<|im_start|>");
  EXPECT_THAT(tokenizer.encode("<|im_start|>", ParseSpecial::yes), ElementsAre(start));
  EXPECT_EQ(tokenizer.encode("<|im_start|>", ParseSpecial::no).size(), 12u);
  EXPECT_EQ(tokenizer.encode("<|im_start|", ParseSpecial::yes).size(), 11u);
}

TEST(Tokenizer, TakesTheLongestSpecialToken) {
  TinyVocabulary tiny;
  tiny.add("<|im", TokenType::user_defined);
  const Tokenizer tokenizer(tiny.data());
  const auto ids = tokenizer.encode("<|im<|im_end|>", ParseSpecial::yes);
  EXPECT_THAT(ids,
              ElementsAre(*tokenizer.find_special("<|im"), *tokenizer.find_special("<|im_end|>")));
}

TEST(Tokenizer, ContentIsPlainTextAndMergesAcrossBorders) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  const std::vector<TextSegment> segments = {
      {"<|im_start|>h", false}, {"ello<|im_end|>", true}, {"<|im_end|>", false}};
  std::vector<std::int32_t> expected = {*tokenizer.find_special("<|im_start|>")};
  for (std::int32_t id : tokenizer.encode("hello<|im_end|>", ParseSpecial::no))
    expected.push_back(id);
  expected.push_back(*tokenizer.find_special("<|im_end|>"));
  EXPECT_EQ(tokenizer.encode(segments), expected);
}

TEST(Tokenizer, EveryByteAndNulComeBack) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  const std::string text("a\0b \t\r\n é€😀 \xC2\x85 12", 24);
  const auto ids = tokenizer.encode(text, ParseSpecial::yes);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(decode_in_pieces(tokenizer, ids), text);
}

TEST(Tokenizer, EmptyTextAndEmptyPrompt) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  EXPECT_TRUE(tokenizer.encode("", ParseSpecial::yes).empty());
  expect_error(ErrorKind::invalid_argument, "the prompt is empty",
               [&] { tokenizer.encode_prompt("", ParseSpecial::yes); });
}

TEST(Tokenizer, BeginningOfTextComesOnce) {
  TinyVocabulary tiny;
  VocabularyData data = tiny.data();
  data.add_bos = true;
  data.bos_id = tiny.id_of("<|im_start|>");
  const Tokenizer tokenizer(data);
  const auto bos = static_cast<std::int32_t>(*data.bos_id);
  EXPECT_THAT(tokenizer.encode_prompt("a", ParseSpecial::yes), ElementsAre(bos, ::testing::_));
  EXPECT_THAT(tokenizer.encode_prompt("<|im_start|>a", ParseSpecial::yes),
              ElementsAre(bos, ::testing::_));
}

TEST(Tokenizer, RefusesTextItCannotEncode) {
  TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  expect_error(ErrorKind::invalid_argument, "byte 0xFF at offset 2",
               [&] { tokenizer.encode("ab\xFF", ParseSpecial::no); });
  expect_error(ErrorKind::invalid_argument, "offset 1",
               [&] { tokenizer.encode("a\xED\xA0\x80", ParseSpecial::no); });
  TinyVocabulary holed;
  holed.remove_byte('q');
  const Tokenizer without_q(holed.data());
  expect_error(ErrorKind::invalid_argument, "byte 0x71",
               [&] { without_q.encode("aq", ParseSpecial::no); });
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  for (std::int32_t id : {-1, tokenizer.size()}) {
    expect_error(ErrorKind::invalid_argument, "not in the vocabulary",
                 [&] { tokenizer.decode(std::vector{id}); });
  }
}

TEST(Tokenizer, KnowsWhatEndsGeneration) {
  TinyVocabulary tiny;
  VocabularyData data = tiny.data();
  data.eos_id = tiny.id_of("a");
  const Tokenizer tokenizer(data);
  EXPECT_TRUE(tokenizer.ends_generation(tiny.id_of("a")));
  EXPECT_TRUE(tokenizer.ends_generation(tiny.id_of("<|im_end|>")));
  EXPECT_FALSE(tokenizer.ends_generation(tiny.id_of("<|im_start|>")));
  EXPECT_EQ(
      tokenizer.decode(std::vector{tiny.id_of("<|im_end|>"), tiny.id_of("a")}, ShowSpecial::no),
      "a");
}

TEST(TokenizerFile, RefusesInconsistentVocabularies) {
  TinyVocabulary tiny;
  const auto refuse = [&](const std::string& part, auto&& change) {
    VocabularyData data = tiny.data();
    change(data);
    expect_error(ErrorKind::bad_file, part, [&] { Tokenizer{data}; });
  };
  const std::vector<std::int32_t> wrong_type(tiny.size(), 7);
  refuse("'llama' (tokenizer.ggml.model)", [](auto& d) { d.model = "llama"; });
  refuse("gpt-2, llama-bpe, qwen2, smollm", [](auto& d) { d.pre = "other"; });
  refuse("0 tokens", [](auto& d) { d.tokens.clear(); });
  refuse("have the same text 'b'", [](auto& d) { d.tokens[3] = "b"; });
  refuse("which is not a token", [](auto& d) { d.merges.push_back("zz z"); });
  refuse("which is not a token", [](auto& d) { d.merges.push_back("b c"); });
  refuse("a space between", [](auto& d) { d.merges.push_back("bc"); });
  refuse("a space between", [](auto& d) { d.merges.push_back(""); });
  refuse("entries for", [](auto& d) { d.token_types.resize(3); });
  refuse("has type 7", [&](auto& d) { d.token_types = wrong_type; });
  refuse("eos_token_id is 99999", [](auto& d) { d.eos_id = 99999; });
  refuse("bos_token_id is -1", [](auto& d) { d.bos_id = -1; });
  refuse("bos_token_id is missing", [](auto& d) { d.add_bos = true; });
}

TEST(TokenizerFile, RefusesOddSpecialTokens) {
  const auto refuse = [&](const std::string& part, const std::string& text) {
    TinyVocabulary tiny;
    tiny.add(text, TokenType::control);
    expect_error(ErrorKind::bad_file, part, [&] { Tokenizer{tiny.data()}; });
  };
  refuse("not UTF-8", "\xC3");
  refuse("0 bytes", "");
  refuse("257 bytes", std::string(257, 'x'));
}

TEST(TokenizerFile, RefusesAMergeIntoOtherText) {
  TinyVocabulary tiny;
  tiny.add("Ġb", TokenType::user_defined);
  VocabularyData data = tiny.data();
  data.merges.push_back("Ġ b");
  expect_error(ErrorKind::bad_file, "which is other text", [&] { Tokenizer{data}; });
}

TEST(TokenizerFile, ChecksTheEmbedding) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  tokenizer.require_embedding_rows(tokenizer.size());
  expect_error(ErrorKind::bad_file, "embedding has 5 rows",
               [&] { tokenizer.require_embedding_rows(5); });
}

TEST(TextAssembler, HoldsBackPartsOfCharacters) {
  TextAssembler decoder;
  EXPECT_EQ(decoder.push("a\xF0\x9F"), "a");
  EXPECT_EQ(decoder.push("\x98"), "");
  EXPECT_EQ(decoder.push("\x80!"), "😀!");
  EXPECT_EQ(decoder.push("\xE2\x82"), "");
  EXPECT_EQ(decoder.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.finish(), "");
}

// The expected texts are Python's bytes.decode(errors="replace").
TEST(TextAssembler, ReplacesWhatIsNoCharacter) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\xFF", "�"},          {"\xC0\x80", "��"},      {"\xE2\x28\xA1", "�(�"},
      {"\xF0\x9Fz", "�z"},    {"\xED\xA0\x80", "���"}, {"\xF4\x90\x80\x80", "����"},
      {"\xE1\x80\xE2", "��"}, {"\x80 a", "� a"},
  };
  for (const auto& [bytes, expected] : cases) {
    TextAssembler decoder;
    std::string text;
    for (char byte : bytes) text += decoder.push(std::string(1, byte));
    EXPECT_EQ(text + decoder.finish(), expected);
  }
}

TEST(TokenizerTime, LongRunsAreLinear) {
  const TinyVocabulary tiny;
  const Tokenizer tokenizer(tiny.data());
  for (const char* unit : {" ", "a", "1", "\n", "<|im", "'", " \n", "é"}) {
    std::string text;
    while (text.size() < (2u << 20)) text += unit;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, ParseSpecial::yes)), text);
  }
}

}  // namespace
}  // namespace sift
