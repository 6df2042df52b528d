#include "sift/eval/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "sift/core/error.h"
#include "sift/model/random_model.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

using ::testing::HasSubstr;
using Tokens = std::vector<std::int32_t>;

class Corpus : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = testing::TempDir() + "/corpus_" + std::to_string(getpid()) + ".gguf";
    write_random_llama(path, {});
    EngineOptions options;
    options.model_path = path;
    engine_ = std::make_unique<Engine>(options);
    std::filesystem::remove(path);
  }

  Tokens encode(const std::string& text, ParseSpecial parse) const {
    return engine_->tokenizer().encode(text, parse);
  }

  template <class Run>
  static std::string message(ErrorKind kind, const Run& run) {
    try {
      run();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      return error.what();
    }
    return "nothing was thrown";
  }

  std::unique_ptr<Engine> engine_;
};

TEST_F(Corpus, TakesATextAsItIs) {
  EXPECT_EQ(corpus_tokens(*engine_, "a.txt", "ab<|im_end|>c\n"),
            encode("ab<|im_end|>c\n", ParseSpecial::yes));
  EXPECT_THAT(message(ErrorKind::invalid_argument, [&] { corpus_tokens(*engine_, "a.txt", ""); }),
              HasSubstr("a.txt is empty"));
}

TEST_F(Corpus, JoinsTheHalvesOfDocumentsAndEndsEach) {
  const std::int32_t end = *engine_->tokenizer().eos_id();
  Tokens expected = encode("The end of the rain", ParseSpecial::no);
  expected.push_back(end);
  const Tokens second = encode("plain <|im_end|>", ParseSpecial::no);
  expected.insert(expected.end(), second.begin(), second.end());
  expected.push_back(end);
  EXPECT_EQ(corpus_tokens(*engine_, "c4.jsonl",
                          "{\"prefix\": \"The end of th\", \"gold_completion\": \"e rain\"}\r\n\n"
                          "{\"text\": \"plain <|im_end|>\", \"id\": 7}"),
            expected);
}

TEST_F(Corpus, NamesTheLineThatIsNoDocument) {
  for (const char* line :
       {"{\"prefix\": \"a\"}", "[1]", "{\"text\": 3}", "{\"text\": \"a\"", "NaN"}) {
    const std::string text = "{\"text\": \"a\"}\n" + std::string(line) + "\n";
    EXPECT_THAT(message(ErrorKind::bad_file, [&] { corpus_tokens(*engine_, "c4.jsonl", text); }),
                HasSubstr("c4.jsonl: line 2: "));
  }
  EXPECT_THAT(message(ErrorKind::bad_file, [&] { corpus_tokens(*engine_, "c4.jsonl", "\n"); }),
              HasSubstr("c4.jsonl: holds no"));
}

TEST_F(Corpus, CutsWindows) {
  const Tokens tokens = {1, 2, 3, 4, 5, 6, 7};
  const auto windows = cut_windows(tokens, 3, 0);
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[1].tokens, Tokens({4, 5, 6}));
  EXPECT_EQ(windows[1].prompt_tokens, 0);
  EXPECT_EQ(cut_windows(tokens, 3, 1).size(), 1U);
  EXPECT_THROW(cut_windows(tokens, 3, 3), Error);
  EXPECT_THROW(cut_windows(tokens, 8, 0), Error);
}

TEST_F(Corpus, TakesCompletionsBehindTheirPrompts) {
  const auto requests = completion_requests(
      *engine_, "runs.jsonl",
      "{\"settings\": {\"task\": \"x\"}}\n"
      "{\"prompt\": \"<|im_start|>Sum?\", \"completion\": \"It is 4.\", \"index\": 0}\n"
      "{\"prompt\": \"a\", \"completion\": \"\"}\n");
  ASSERT_EQ(requests.size(), 1U);
  const Tokens prompt = engine_->tokenizer().encode_prompt("<|im_start|>Sum?", ParseSpecial::yes);
  EXPECT_EQ(requests[0].prompt_tokens, std::ssize(prompt));
  Tokens expected = prompt;
  const Tokens completion = encode("It is 4.", ParseSpecial::yes);
  expected.insert(expected.end(), completion.begin(), completion.end());
  EXPECT_EQ(requests[0].tokens, expected);
  const auto exact = completion_requests(
      *engine_, "runs.jsonl", R"({"prompt": "a", "completion": "It", "token_ids": [7, 8, 9]})");
  EXPECT_EQ(Tokens(exact[0].tokens.end() - 3, exact[0].tokens.end()), Tokens({7, 8, 9}));
  EXPECT_EQ(std::ssize(exact[0].tokens), exact[0].prompt_tokens + 3);
  for (const char* ids : {"[-1]", "[1.5]", "[100000]"}) {
    EXPECT_THROW(completion_requests(*engine_, "runs.jsonl",
                                     R"({"prompt": "a", "completion": "It", "token_ids": )" +
                                         std::string(ids) + "}"),
                 Error);
  }
  EXPECT_THAT(message(ErrorKind::bad_file,
                      [&] {
                        completion_requests(*engine_, "runs.jsonl",
                                            "{\"settings\": 1}\n{\"prompt\": \"a\"}");
                      }),
              HasSubstr("runs.jsonl: line 2: expected a JSON object with \"prompt\""));
  EXPECT_THROW(completion_requests(*engine_, "runs.jsonl", "{\"settings\": 1}"), Error);
}

}  // namespace
}  // namespace sift
