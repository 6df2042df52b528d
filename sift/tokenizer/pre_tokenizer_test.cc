#include "sift/tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "sift/tokenizer/tiny_vocabulary.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

/// Random texts and where another implementation cuts them (tools/goldens/make_split_goldens.py).
class PreTokenizerGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(PreTokenizerGolden, CutsWhereTheModelWasTrainedTo) {
  std::ifstream file(SIFT_TESTS_DIR "/data/splits.json");
  const auto cases = nlohmann::json::parse(file);
  ASSERT_EQ(cases.size(), 500u);
  const PreTokenizer pre_tokenizer(GetParam());
  for (const auto& each : cases) {
    const std::string text = each.at("text");
    std::vector<std::size_t> lengths;
    for (std::string_view piece : pre_tokenizer.split(text)) lengths.push_back(piece.size());
    EXPECT_EQ(lengths, each.at(GetParam()).get<std::vector<std::size_t>>()) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Names, PreTokenizerGolden,
                         ::testing::Values("gpt-2", "llama-bpe", "qwen2", "smollm"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

// "hello" has no chain of merges to it; only a model that looks whole words up first can say it.
TEST(PreTokenizer, WholeWordsComeFirstForLlama3Only) {
  for (const char* name : {"gpt-2", "llama-bpe", "qwen2", "smollm"}) {
    TinyVocabulary tiny(name);
    tiny.add("hello", TokenType::normal);
    const Tokenizer tokenizer(tiny.data());
    const std::size_t expected = std::string_view(name) == "llama-bpe" ? 1 : 2;
    EXPECT_EQ(tokenizer.encode("hello", ParseSpecial::no).size(), expected) << name;
  }
}

}  // namespace
}  // namespace sift
