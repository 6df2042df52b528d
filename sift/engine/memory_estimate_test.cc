#include "sift/engine/memory_estimate.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "sift/attention/attention_state.h"
#include "sift/engine/engine.h"
#include "sift/model/model.h"
#include "sift/model/random_model.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

class MemoryEstimateTest : public testing::TestWithParam<DType> {};

TEST_P(MemoryEstimateTest, IsNearWhatIsTaken) {
  const auto path = std::filesystem::path(testing::TempDir()) /
                    ("memory_" + std::string(traits(GetParam()).name) + ".gguf");
  RandomModelOptions options;
  options.embedding = 256;
  options.feed_forward = 512;
  options.weight_type = GetParam();
  write_random_llama(path, options);
  EngineOptions engine_options;
  engine_options.model_path = path;
  Engine engine(engine_options);
  const MemoryEstimate estimate = estimate_memory(engine.model(), parse_policy("full"), 1);
  const auto packed = static_cast<double>(engine.transformer().packed_bytes());
  EXPECT_NEAR(static_cast<double>(estimate.weight_bytes) / packed, 1, 0.05);

  KvCache cache(engine.cache_layout(), kPageRows);
  std::vector<std::int32_t> pages;
  cache.allocate_pages(1, pages);
  EXPECT_EQ(cache_bytes(engine.model(), engine.options().cache_type, kPageRows),
            static_cast<std::int64_t>(cache.bytes_in_use()));
  std::filesystem::remove(path);
}

TEST(MemoryEstimate, CountsWhatAttentionTakesUnderAPolicy) {
  const auto path = std::filesystem::path(testing::TempDir()) / "memory_attention.gguf";
  write_random_llama(path, {});
  const Model model(path);
  const auto estimate = [&](const std::string& policy, int threads) {
    return estimate_memory(model, parse_policy(policy), threads);
  };
  const std::int64_t full = estimate("full", 1).attention_scratch_bytes;
  const std::int64_t sift = estimate("sift", 1).attention_scratch_bytes;
  const AttentionShape shape = model.shape().attention();
  const std::int64_t context = model.config().context_length;
  // All keys of a layer as floats, whatever the policy.
  EXPECT_GT(full, context * shape.kv_heads * shape.head_dim * std::int64_t{sizeof(float)});
  EXPECT_GT(sift, full);
  EXPECT_GT(sift, estimate("sift:compensate=none", 1).attention_scratch_bytes);
  EXPECT_GT(estimate("full", 3).attention_scratch_bytes, full);
  const AttentionState state(parse_policy("sift"), shape);
  EXPECT_EQ(estimate("sift", 1).attention_state_bytes, static_cast<std::int64_t>(state.bytes()));
  std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(Types, MemoryEstimateTest,
                         testing::Values(DType::f32, DType::q4_1, DType::q4_k, DType::q6_k),
                         [](const auto& type) { return std::string(traits(type.param).name); });

}  // namespace
}  // namespace sift
