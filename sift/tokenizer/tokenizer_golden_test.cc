#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "sift/core/memory_map.h"
#include "sift/tokenizer/chat_template.h"
#include "sift/tokenizer/stream_decoder.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/tokenizer/tokenizer_from_gguf.h"
#include "tests/test_environment.h"

namespace sift {
namespace {

/// The tokenizer of the default model, and the folder of its reference outputs.
class TokenizerGolden : public ::testing::Test {
 protected:
  void SetUp() override {
    SIFT_REQUIRE_MODEL();
    const std::string model = test::model_path();
    const MemoryMap map(model);
    tokenizer_ = std::make_unique<Tokenizer>(tokenizer_from_gguf(Gguf(map.bytes(), model)));
  }

  std::ifstream open(const std::string& file) {
    return std::ifstream(test::data_folder() + "/" + file, std::ios::binary);
  }

  void check(const std::string& text, const std::vector<std::int32_t>& expected) {
    const auto ids = tokenizer_->encode(text, ParseSpecial::yes);
    EXPECT_EQ(ids, expected) << text;
    EXPECT_EQ(tokenizer_->decode(ids), text);
    StreamDecoder decoder(*tokenizer_);
    std::string streamed;
    for (std::int32_t id : ids) streamed += decoder.push(id);
    EXPECT_EQ(streamed + decoder.finish(), text);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenizerGolden, SixPrompts) {
  SIFT_REQUIRE_DATA();
  std::ifstream file = open("smollm2-golden/golden.json");
  const auto golden = nlohmann::json::parse(file);
  for (const auto& prompt : golden.at("prompts")) check(prompt.at("text"), prompt.at("token_ids"));
  EXPECT_EQ(golden.at("prompts").size(), 6u);
}

TEST_F(TokenizerGolden, RandomStrings) {
  SIFT_REQUIRE_DATA();
  std::ifstream file = open("smollm2-golden/tokenizer_fuzz.jsonl");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const auto entry = nlohmann::json::parse(line);
    check(entry.at("text"), entry.at("ids"));
  }
  EXPECT_EQ(lines, 600);
}

TEST_F(TokenizerGolden, TextOfManyLines) {
  SIFT_REQUIRE_DATA();
  std::ifstream file = open("wikitext2/wiki.test.raw");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto ids = tokenizer_->encode(text, ParseSpecial::yes);
  EXPECT_EQ(ids.size(), 303415u);
  EXPECT_EQ(tokenizer_->decode(ids), text);
}

TEST_F(TokenizerGolden, ItsChatTemplateGivesTheChatPrompt) {
  SIFT_REQUIRE_DATA();
  std::ifstream file = open("smollm2-golden/golden.json");
  const auto golden = nlohmann::json::parse(file);
  const auto& prompt = golden.at("prompts").at("chat");
  const std::string text = prompt.at("text");
  const std::string begin = "<|im_start|>user\n", end = "<|im_end|>\n";
  const std::size_t from = text.find(begin) + begin.size();
  const std::vector<ChatMessage> messages = {
      {"user", text.substr(from, text.find(end, from) - from)}};
  ChatRequest request;
  request.messages_json = messages_json(messages);
  const auto segments = ChatTemplate(tokenizer_->chat_template()).render(request);
  EXPECT_EQ(tokenizer_->encode(segments), prompt.at("token_ids").get<std::vector<std::int32_t>>());
}

TEST_F(TokenizerGolden, SpecialTextOfAUserIsPlain) {
  ChatRequest request;
  request.messages_json = messages_json(std::vector<ChatMessage>{{"user", "<|im_end|>"}});
  const auto segments = ChatTemplate(tokenizer_->chat_template()).render(request);
  const auto ids = tokenizer_->encode(segments);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 2);  // those of the system's and the user's turn
}

TEST_F(TokenizerGolden, KnowsItsSpecialTokens) {
  EXPECT_EQ(tokenizer_->size(), 49152);
  EXPECT_EQ(tokenizer_->eos_id(), 2);
  EXPECT_FALSE(tokenizer_->adds_bos());
  EXPECT_TRUE(tokenizer_->ends_generation(0));
  EXPECT_TRUE(tokenizer_->ends_generation(2));
  EXPECT_FALSE(tokenizer_->ends_generation(1));
  EXPECT_NE(tokenizer_->chat_template().find("add_generation_prompt"), std::string::npos);
}

}  // namespace
}  // namespace sift
