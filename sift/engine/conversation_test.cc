#include "sift/engine/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "sift/core/error.h"
#include "sift/model/random_model.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

using testing::HasSubstr;

class ConversationTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(testing::TempDir()) /
            (std::string("conversation_") +
             testing::UnitTest::GetInstance()->current_test_info()->name() + ".gguf");
    RandomModelOptions model;
    model.context = 256;
    write_random_llama(path_, model);
    EngineOptions options;
    options.model_path = path_;
    options.backend = BackendKind::reference;
    engine_ = std::make_unique<Engine>(options);
  }

  void TearDown() override { std::filesystem::remove(path_); }

  static GenerationRequest short_answer() {
    GenerationRequest request;
    request.max_tokens = 5;
    request.ignore_end_of_text = true;
    return request;
  }

  std::filesystem::path path_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(ConversationTest, TurnsBuildOnEachOther) {
  Conversation conversation(*engine_, parse_policy("full"), "Be brief.");
  const GenerationResult first = conversation.say("Hello", short_answer());
  EXPECT_EQ(first.generated_tokens, 5);
  EXPECT_EQ(conversation.tokens(), first.prompt_tokens + 5);
  const GenerationResult second = conversation.say("And now?", short_answer());
  EXPECT_GT(second.prompt_tokens, first.prompt_tokens + 5);
}

// The second turn's prompt continues the tokens of the first, so its answer is that of a session
// which never stopped.
TEST_F(ConversationTest, GeneratedTokensStayAsTheyAre) {
  Conversation conversation(*engine_, parse_policy("full"), "");
  const GenerationResult first = conversation.say("Hello", short_answer());
  const GenerationResult second = conversation.say("x", short_answer());

  const Tokenizer& tokenizer = engine_->tokenizer();
  GenerationRequest request = short_answer();
  request.policy = parse_policy("full");
  request.prompt = tokenizer.encode("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
                                    ParseSpecial::yes);
  request.prompt.insert(request.prompt.end(), first.token_ids.begin(), first.token_ids.end());
  const auto rest = tokenizer.encode(
      "<|im_end|>\n<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n", ParseSpecial::yes);
  request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
  EXPECT_EQ(engine_->generate(request).token_ids, second.token_ids);
  EXPECT_EQ(second.prompt_tokens, static_cast<std::int64_t>(request.prompt.size()));
}

// Rows that a turn evicted are gone for the next one; where none is, it is as if all had stayed.
TEST_F(ConversationTest, TurnsGoOnWithTheRowsThatStayed) {
  const auto two_turns = [&](Engine& engine, const char* policy) {
    Conversation conversation(engine, parse_policy(policy), "");
    conversation.say("Hello", short_answer());
    return conversation.say("And now?", short_answer());
  };
  const GenerationResult full = two_turns(*engine_, "full");
  EXPECT_EQ(two_turns(*engine_, "h2o:budget=256").token_ids, full.token_ids);
  EXPECT_EQ(two_turns(*engine_, "window:recent=250").token_ids, full.token_ids);
  EngineOptions options = engine_->options();
  options.backend = BackendKind::cpu;
  options.compute = Compute::f32;
  Engine cpu(options);
  for (const char* policy : {"h2o:budget=24", "h2o:keep=0.5", "window:sink=2,recent=14"}) {
    const GenerationResult expected = two_turns(*engine_, policy);
    const GenerationResult actual = two_turns(cpu, policy);
    EXPECT_EQ(actual.token_ids, expected.token_ids) << policy;
    const AttentionStatistics a = actual.attention.summary();
    const AttentionStatistics e = expected.attention.summary();
    EXPECT_EQ(a.k_bytes_read, e.k_bytes_read) << policy;
    EXPECT_EQ(a.realised_sparsity, e.realised_sparsity) << policy;
    EXPECT_GT(*a.realised_sparsity, 0.2) << policy;
  }
}

TEST_F(ConversationTest, SpecialTokensInMessagesAreText) {
  Conversation plain(*engine_, parse_policy("full"), "");
  Conversation hostile(*engine_, parse_policy("full"), "");
  const std::int64_t short_prompt = plain.say("a", short_answer()).prompt_tokens;
  const std::int64_t long_prompt = hostile.say("<|im_end|>", short_answer()).prompt_tokens;
  EXPECT_EQ(long_prompt - short_prompt, 8);  // nine tokens ("en" is one) instead of one
}

TEST_F(ConversationTest, ARefusedTurnIsForgotten) {
  Conversation conversation(*engine_, parse_policy("full"), "");
  const std::int64_t before = conversation.say("a", short_answer()).prompt_tokens;
  EXPECT_THROW(conversation.say(std::string(1000, 'x'), short_answer()), Error);
  EXPECT_THROW(conversation.say("\xff", short_answer()), Error);
  EXPECT_EQ(conversation.tokens(), before + 5);
  EXPECT_NO_THROW(conversation.say("b", short_answer()));
}

TEST_F(ConversationTest, ATurnThatEndsInsideItsPromptIsForgotten) {
  Conversation conversation(*engine_, parse_policy("full"), "");
  conversation.say("a", short_answer());
  const std::int64_t before = conversation.tokens();
  const auto stop = [](std::int64_t, std::int64_t) { return false; };
  const GenerationResult stopped = conversation.say("b", short_answer(), {}, stop);
  EXPECT_EQ(stopped.finish_reason, FinishReason::interrupted);
  EXPECT_EQ(stopped.generated_tokens, 0);
  EXPECT_EQ(stopped.text, "");
  EXPECT_EQ(conversation.tokens(), before);

  Conversation undisturbed(*engine_, parse_policy("full"), "");
  undisturbed.say("a", short_answer());
  EXPECT_EQ(conversation.say("c", short_answer()).token_ids,
            undisturbed.say("c", short_answer()).token_ids);
}

TEST_F(ConversationTest, ThePromptCallbackSeesHowFarItIs) {
  Conversation conversation(*engine_, parse_policy("full"), "");
  std::int64_t last = 0;
  std::int64_t total = 0;
  const auto watch = [&](std::int64_t done, std::int64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
    return true;
  };
  const GenerationResult result = conversation.say("a", short_answer(), {}, watch);
  EXPECT_EQ(last, result.prompt_tokens);
  EXPECT_EQ(total, result.prompt_tokens);
}

TEST_F(ConversationTest, ClearAndPolicyStartTheCacheAfresh) {
  Conversation conversation(*engine_, parse_policy("full"), "");
  const GenerationResult first = conversation.say("a", short_answer());
  conversation.set_policy(parse_policy("sift:warmup=2"));
  EXPECT_EQ(conversation.policy().warmup, 2);
  const GenerationResult sifted = conversation.say("b", short_answer());
  EXPECT_GT(sifted.attention.summary().sparse_steps, 0);
  conversation.clear();
  EXPECT_EQ(conversation.tokens(), 0);
  EXPECT_EQ(conversation.say("a", short_answer()).prompt_tokens, first.prompt_tokens);
}

TEST_F(ConversationTest, ARefusedPolicyLeavesTheOldOne) {
  Conversation conversation(*engine_, parse_policy("full"), "");
  conversation.say("a", short_answer());
  EXPECT_THROW(conversation.set_policy(parse_policy("sift:calibrate=decode,warmup=9000")), Error);
  EXPECT_EQ(conversation.policy().name, "full");
  EXPECT_NO_THROW(conversation.say("b", short_answer()));
}

TEST_F(ConversationTest, AModelWithoutATemplateIsRefused) {
  RandomModelOptions model;
  GgufWriter writer = random_llama(model);
  std::vector<std::byte> bytes = writer.bytes();
  const std::string key = "tokenizer.chat_template";
  const auto at = std::search(bytes.begin(), bytes.end(), key.begin(), key.end(),
                              [](std::byte byte, char c) { return byte == std::byte(c); });
  ASSERT_NE(at, bytes.end());
  *at = std::byte{'T'};
  write_file(path_, bytes);
  EngineOptions options;
  options.model_path = path_;
  options.backend = BackendKind::reference;
  Engine engine(options);
  try {
    Conversation conversation(engine, parse_policy("full"), "");
    FAIL() << "a model without a chat template was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.chat_template"));
  }
}

}  // namespace
}  // namespace sift
