#include "sift/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "sift/core/dequantise.h"
#include "sift/core/error.h"
#include "sift/model/model_weights.h"
#include "sift/model/random_model.h"

namespace sift {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

class ModelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "model_XXXXXX";
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ / "random.gguf";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
  std::string path_;
};

template <class Function>
void expect_message(Function function, const std::string& message) {
  try {
    function();
    FAIL() << "expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

/// Reads everything that Model reads.
void load(const Bytes& file) {
  const Gguf gguf(file, "m.gguf");
  const ModelConfig config = read_model_config(gguf);
  find_weights(gguf, config);
  make_shape(gguf, config);
}

TEST_F(ModelTest, OpensARandomModel) {
  write_random_llama(path_, {});
  const Model model(path_);
  EXPECT_EQ(model.shape().layers, 2);
  EXPECT_EQ(model.shape().head_dim, 16);
  EXPECT_EQ(model.shape().rope.inverse_frequencies.size(), 8U);
  const ModelWeights weights = model.weights();
  ASSERT_EQ(weights.layers.size(), 2U);
  EXPECT_TRUE(weights.tied_embeddings);
  EXPECT_EQ(weights.layers[1].key.source.rows, 32);
  EXPECT_EQ(weights.layers[1].key.source.columns, 64);
  EXPECT_EQ(weights.layers[1].down.source.rows, 64);
  EXPECT_EQ(weights.layers[1].down.source.columns, 128);
  EXPECT_EQ(weights.output_norm.size(), 64U);
  EXPECT_EQ(&weights.output_weight(), &weights.token_embedding);
  EXPECT_NO_THROW(model.check_finite());
}

TEST_F(ModelTest, EveryWeightTypeLoads) {
  for (int type = 0; type <= static_cast<int>(DType::q6_k); ++type) {
    RandomModelOptions options;
    options.embedding = 256;
    options.feed_forward = 256;
    options.tied_embeddings = false;
    options.weight_type = static_cast<DType>(type);
    write_random_llama(path_, options);
    const Model model(path_);
    EXPECT_EQ(model.weights().layers[0].gate.source.type, options.weight_type);
    EXPECT_FALSE(model.weights().tied_embeddings);
    EXPECT_NO_THROW(model.check_finite());
  }
}

TEST_F(ModelTest, SameSeedSameBytes) {
  RandomModelOptions other;
  other.seed = 2;
  EXPECT_EQ(random_llama({}).bytes(), random_llama({}).bytes());
  EXPECT_NE(random_llama({}).bytes(), random_llama(other).bytes());
}

TEST_F(ModelTest, RandomWeightsHaveTheScaleTheyShould) {
  write_random_llama(path_, {});
  const Model model(path_);
  const MatrixView query = model.weights().layers[0].query.source;
  std::vector<float> values(static_cast<std::size_t>(query.rows * query.columns));
  dequantise(query.type, query.data, query.rows * query.columns, values.data());
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += value * value;
  }
  const double count = static_cast<double>(values.size());
  EXPECT_NEAR(sum / count, 0.0, 0.01);
  EXPECT_NEAR(std::sqrt(squares / count), 1.5 / 8, 0.005);
}

TEST_F(ModelTest, ReleasedWeightsCanBeReadAgain) {
  write_random_llama(path_, {});
  const Model model(path_);
  const MatrixView view = model.weights().token_embedding.source;
  const Bytes before(view.data, view.data + view.bytes());
  model.release(view);
  EXPECT_EQ(before, Bytes(view.data, view.data + view.bytes()));
}

TEST_F(ModelTest, Case20ShrinkingFileIsAnError) {
  write_random_llama(path_, {});
  const Model model(path_);
  std::filesystem::resize_file(path_, 4096);
  expect_message([&] { model.weights(); }, "shrank while mapped");
  expect_message([&] { model.check_finite(); }, "shrank while mapped");
}

TEST(ModelFiles, Case15MissingTensorAndWrongShape) {
  RandomModelOptions options;
  const Bytes file = random_llama(options).bytes();
  // Rename the last layer's ffn_down in the directory.
  const std::string name = "blk.1.ffn_down.weight";
  const auto at = std::search(file.begin(), file.end(), name.begin(), name.end(),
                              [](std::byte b, char c) { return static_cast<char>(b) == c; });
  ASSERT_NE(at, file.end());
  Bytes renamed = file;
  renamed[static_cast<std::size_t>(at - file.begin())] = std::byte{'X'};
  expect_message([&] { load(renamed); },
                 "m.gguf: tensor blk.1.ffn_down.weight in the metadata: is missing");
  const auto with_shape = [&](std::int64_t columns, std::int64_t rows) {
    Bytes changed = file;
    std::byte* shape = changed.data() + (at - file.begin()) + name.size() + 4;
    std::memcpy(shape, &columns, 8);
    std::memcpy(shape + 8, &rows, 8);
    return changed;
  };
  EXPECT_NO_THROW(load(with_shape(128, 64)));
  expect_message([&] { load(with_shape(64, 64)); }, "has shape [64, 64], expected [128, 64]");
  expect_message([&] { load(with_shape(128, 32)); }, "has shape [128, 32], expected [128, 64]");
}

TEST(ModelFiles, UnknownTensorsAreRefused) {
  GgufWriter writer = random_llama({});
  writer.add_tensor("blk.0.attn_q.bias", DType::f32, {64}, Bytes(256));
  expect_message([&] { load(writer.bytes()); }, "tensor blk.0.attn_q.bias at offset");
}

TEST(ModelFiles, NormsMustBeFloats) {
  GgufWriter writer = random_llama({});
  writer.add_tensor("rope_freqs.weight", DType::f16, {8}, Bytes(16));
  expect_message([&] { load(writer.bytes()); }, "is f16 [8], expected f32 [8]");
}

TEST(ModelFiles, RopeFactors) {
  std::vector<float> factors(8, 2.0F);
  const auto with_factors = [&] {
    GgufWriter writer = random_llama({});
    const auto bytes = std::as_bytes(std::span(factors));
    writer.add_tensor("rope_freqs.weight", DType::f32, {8}, {bytes.begin(), bytes.end()});
    return writer.bytes();
  };
  const Bytes file = with_factors();
  const Gguf gguf(file, "m.gguf");
  EXPECT_EQ(make_shape(gguf, read_model_config(gguf)).rope.inverse_frequencies[0], 0.5F);
  factors[3] = 0.0F;
  expect_message([&] { load(with_factors()); }, "holds the factor 0");
}

TEST(ModelFiles, Case33TokensAgainstEmbedding) {
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  for (const char* key : {"context_length", "embedding_length", "block_count",
                          "feed_forward_length", "attention.head_count"}) {
    writer.add_u32("llama." + std::string(key), key[0] == 'e' ? 64U : 1U);
  }
  writer.add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  writer.add_strings("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  writer.add_tensor("token_embd.weight", DType::f32, {64, 3}, Bytes(768));
  expect_message([&] { load(writer.bytes()); }, "2 tokens, but token_embd.weight has 3 rows");
}

TEST(ModelFiles, Case28NonFiniteWeightsAreNamed) {
  GgufWriter writer;
  std::vector<float> values(8192);
  values[5000] = std::numeric_limits<float>::quiet_NaN();
  const auto bytes = std::as_bytes(std::span(values));
  writer.add_tensor("fine", DType::f32, {64}, Bytes(256));
  writer.add_tensor("broken", DType::f32, {64, 128}, {bytes.begin(), bytes.end()});
  const Bytes file = writer.bytes();
  expect_message([&] { check_finite(Gguf(file, "m.gguf")); }, "m.gguf: tensor broken at offset");
  expect_message([&] { check_finite(Gguf(file, "m.gguf")); },
                 "value 5000 (row 78, column 8) is nan");
}

TEST(DefaultModel, Opens) {
  const char* path = std::getenv("SIFT_TEST_MODEL");
  if (path == nullptr) GTEST_SKIP() << "SIFT_TEST_MODEL does not name a model file";
  const Model model(path);
  EXPECT_EQ(model.config().block_count, 30);
  EXPECT_EQ(model.config().head_count, 9);
  EXPECT_EQ(model.config().head_count_kv, 3);
  EXPECT_EQ(model.config().head_dim, 64);
  EXPECT_EQ(model.config().context_length, 8192);
  EXPECT_EQ(model.config().vocabulary_size, 49152);
  EXPECT_TRUE(model.config().tied_embeddings);
  EXPECT_EQ(model.weights().layers[29].value.source.type, DType::q4_1);
  EXPECT_NO_THROW(model.check_finite());
}

}  // namespace
}  // namespace sift
