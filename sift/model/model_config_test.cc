#include "sift/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "sift/core/error.h"
#include "sift/model/gguf_writer.h"

namespace sift {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// A configuration whose keys tests change or take away.
class ConfigTest : public testing::Test {
 protected:
  using Value = std::variant<std::uint32_t, float, bool, std::string>;

  ModelConfig read() {
    GgufWriter writer;
    for (const auto& [key, value] : keys_) add(writer, key, value);
    writer.add_tensor("token_embd.weight", DType::f32, {1, 5}, std::vector<std::byte>(20));
    file_ = writer.bytes();
    return read_model_config(Gguf(file_, "m.gguf"));
  }

  void expect_refused(const std::string& key, const std::string& message) {
    try {
      read();
      FAIL() << "taken, expected: " << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_file);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("m.gguf: " + key + " "), HasSubstr(message)));
    }
  }

  std::map<std::string, Value> keys_ = {
      {"general.architecture", "llama"},     {"llama.context_length", 2048U},
      {"llama.embedding_length", 256U},      {"llama.block_count", 3U},
      {"llama.feed_forward_length", 512U},   {"llama.attention.head_count", 4U},
      {"llama.attention.head_count_kv", 2U}, {"llama.attention.layer_norm_rms_epsilon", 1e-5F},
      {"llama.rope.freq_base", 5e5F},
  };

 private:
  static void add(GgufWriter& writer, const std::string& key, const Value& value) {
    if (const auto* number = std::get_if<std::uint32_t>(&value)) writer.add_u32(key, *number);
    if (const auto* number = std::get_if<float>(&value)) writer.add_f32(key, *number);
    if (const auto* flag = std::get_if<bool>(&value)) writer.add_bool(key, *flag);
    if (const auto* text = std::get_if<std::string>(&value)) writer.add_string(key, *text);
  }

  std::vector<std::byte> file_;
};

TEST_F(ConfigTest, ReadsLlama) {
  const ModelConfig config = read();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.vocabulary_size, 5);
  EXPECT_EQ(config.context_length, 2048);
  EXPECT_EQ(config.embedding_length, 256);
  EXPECT_EQ(config.block_count, 3);
  EXPECT_EQ(config.feed_forward_length, 512);
  EXPECT_EQ(config.head_count, 4);
  EXPECT_EQ(config.head_count_kv, 2);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.rope_dimension_count, 64);
  EXPECT_EQ(config.rope_style, RopeStyle::adjacent_pairs);
  EXPECT_EQ(config.rope_frequency_base, 5e5);
  EXPECT_EQ(config.rope_linear_factor, 1.0);
  EXPECT_EQ(config.rms_epsilon, 1e-5F);
  EXPECT_TRUE(config.tied_embeddings);
}

TEST_F(ConfigTest, HeadDimensionOfItsOwn) {
  keys_["llama.attention.key_length"] = 128U;
  keys_["llama.attention.value_length"] = 128U;
  EXPECT_EQ(read().head_dim, 128);
  keys_["llama.attention.value_length"] = 64U;
  expect_refused("llama.attention.value_length", "differs from the key length 128");
}

TEST_F(ConfigTest, DefaultsOfAbsentKeys) {
  keys_.erase("llama.attention.head_count_kv");
  keys_.erase("llama.rope.freq_base");
  EXPECT_EQ(read().head_count_kv, 4);
  EXPECT_EQ(read().rope_frequency_base, 10000.0);
}

TEST_F(ConfigTest, RequiredKeys) {
  for (const auto& [key, value] : std::map(keys_)) {
    if (key == "llama.attention.head_count_kv" || key == "llama.rope.freq_base") continue;
    keys_.erase(key);
    expect_refused(key, "is missing");
    keys_[key] = value;
  }
}

TEST_F(ConfigTest, LinearScaling) {
  keys_["llama.rope.scaling.type"] = "linear";
  expect_refused("llama.rope.scaling.factor", "is missing");
  keys_["llama.rope.scaling.factor"] = 4.0F;
  EXPECT_EQ(read().rope_linear_factor, 4.0);
}

TEST_F(ConfigTest, OtherScalingsAreRefused) {
  keys_["llama.rope.scaling.type"] = "yarn";
  expect_refused("llama.rope.scaling.type", "the scaling yarn is not supported");
}

TEST_F(ConfigTest, UnknownArchitecture) {
  keys_["general.architecture"] = "mamba";
  expect_refused("general.architecture", "the architecture mamba is not supported, expected llama");
}

TEST_F(ConfigTest, Case16BlockCount) {
  for (const std::uint32_t count : {0U, 1000000000U}) {
    keys_["llama.block_count"] = count;
    expect_refused("llama.block_count", "expected 1 to 4096");
  }
}

TEST_F(ConfigTest, Case17HeadsNotDivisible) {
  keys_["llama.attention.head_count_kv"] = 3U;
  expect_refused("llama.attention.head_count_kv", "4 query heads are no multiple of 3");
  keys_["llama.attention.head_count_kv"] = 0U;
  expect_refused("llama.attention.head_count_kv", "is 0, expected 1 to");
}

TEST_F(ConfigTest, Case18RopeBase) {
  for (const float base : {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN(),
                           std::numeric_limits<float>::infinity()}) {
    keys_["llama.rope.freq_base"] = base;
    expect_refused("llama.rope.freq_base", "expected a positive finite number");
  }
}

TEST_F(ConfigTest, Case33VocabularyAgainstEmbedding) {
  keys_["llama.vocab_size"] = 6U;
  expect_refused("llama.vocab_size", "differs from the 5 rows of token_embd.weight");
}

TEST_F(ConfigTest, Case69HeadDimension) {
  for (const std::uint32_t dimension : {8U, 40U, 272U}) {
    keys_["llama.attention.key_length"] = dimension;
    keys_["llama.attention.value_length"] = dimension;
    expect_refused("llama.attention.key_length", "expected a multiple of 16 up to 256");
  }
  keys_["llama.attention.key_length"] = 0U;
  expect_refused("llama.attention.key_length", "is 0, expected 1 to");
}

TEST_F(ConfigTest, HeadsThatDoNotDivideTheEmbedding) {
  keys_["llama.attention.head_count"] = 6U;
  expect_refused("llama.attention.head_count", "6 heads do not divide the embedding length 256");
}

TEST_F(ConfigTest, UnsupportedComputationsAreRefused) {
  keys_["llama.expert_count"] = 8U;
  expect_refused("llama.expert_count", "is 8, but experts are not supported");
  keys_["llama.expert_count"] = 0U;
  EXPECT_NO_THROW(read());
  keys_["llama.attention.causal"] = false;
  expect_refused("llama.attention.causal", "only causal attention");
  keys_.erase("llama.attention.causal");
  keys_["llama.attention.sliding_window"] = 4096U;
  expect_refused("llama.attention.sliding_window", "not supported");
}

TEST_F(ConfigTest, WrongTypes) {
  keys_["llama.block_count"] = 3.0F;
  expect_refused("llama.block_count", "is of type f32, expected an integer");
}

TEST(InverseFrequencies, FollowTheDefinition) {
  ModelConfig config;
  config.rope_dimension_count = 4;
  config.rope_frequency_base = 100.0;
  config.rope_linear_factor = 2.0;
  EXPECT_THAT(inverse_frequencies(config, {}), testing::ElementsAre(0.5F, 0.05F));
  const std::vector<float> factors = {1.0F, 5.0F};
  EXPECT_THAT(inverse_frequencies(config, factors), testing::ElementsAre(0.5F, 0.01F));
}

}  // namespace
}  // namespace sift
