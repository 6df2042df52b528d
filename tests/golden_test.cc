// Whole-model tests: logits and greedy continuations against float32 results that Hugging Face
// transformers computed from the same file (smollm2-golden/README.md in the test data).

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "sift/engine/engine.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/transformer/transformer.h"
#include "tests/test_environment.h"

namespace sift {
namespace {

/// Under this difference between the two best logits another order of summation may swap them.
constexpr double kGreedyMargin = 0.06;

nlohmann::json golden_prompts() {
  std::ifstream file(test::data_folder() + "/smollm2-golden/golden.json");
  return nlohmann::json::parse(file).at("prompts");
}

std::vector<float> last_logits(Engine& engine, const std::vector<std::int32_t>& tokens) {
  Transformer& transformer = engine.transformer();
  const auto rows = static_cast<std::int64_t>(tokens.size());
  KvCache cache(engine.cache_layout(), rows);
  Sequence sequence(cache, parse_policy("full"), transformer.shape().heads);
  sequence.attention().begin_prompt(rows);
  sequence.reserve(rows);
  const Segment segment{&sequence, 0, rows, rows};
  const Batch batch{tokens, {&segment, 1}};
  transformer.forward(batch);
  std::vector<float> logits(static_cast<std::size_t>(transformer.shape().vocabulary));
  const std::int64_t newest = rows - 1;
  transformer.logits(batch, {&newest, 1}, logits);
  return logits;
}

struct Setting {
  BackendKind backend;
  Compute compute;
  DType cache_type;
  double tolerance;  ///< on each logit
};

class Golden : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    SIFT_REQUIRE_MODEL();
    SIFT_REQUIRE_DATA();
    prompts_ = golden_prompts();
    EngineOptions options;
    options.model_path = test::model_path();
    options.backend = GetParam().backend;
    options.compute = GetParam().compute;
    options.cache_type = GetParam().cache_type;
    engine_ = std::make_unique<Engine>(options);
  }

  nlohmann::json prompts_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(Golden, TokenIdsAreEqual) {
  for (const auto& [name, prompt] : prompts_.items()) {
    const auto ids =
        engine_->tokenizer().encode(prompt.at("text").get<std::string>(), ParseSpecial::yes);
    EXPECT_EQ(ids, prompt.at("token_ids").get<std::vector<std::int32_t>>()) << name;
  }
}

TEST_P(Golden, LastLogitsAreClose) {
  const double tolerance = GetParam().tolerance;
  for (const auto& [name, prompt] : prompts_.items()) {
    const auto logits = last_logits(*engine_, prompt.at("token_ids"));
    double worst = 0;
    for (const auto& entry : prompt.at("last_logits_top10")) {
      const double difference = logits[entry.at(0).get<std::size_t>()] - entry.at(1).get<double>();
      worst = std::max(worst, std::abs(difference));
    }
    EXPECT_LT(worst, tolerance) << name;
    EXPECT_NEAR(log_sum_exp(logits), prompt.at("last_logsumexp").get<double>(), tolerance) << name;
    const double mean =
        std::accumulate(logits.begin(), logits.end(), 0.0) / static_cast<double>(logits.size());
    EXPECT_NEAR(mean, prompt.at("last_logits_mean").get<double>(), tolerance) << name;
    RecordProperty("worst_" + name, std::to_string(worst));
  }
}

TEST_P(Golden, GreedyTextIsEqualWhereTheMarginAllows) {
  if (GetParam().backend == BackendKind::reference) {
    GTEST_SKIP() << "step by step, the reference backend is too slow on a real model";
  }
  for (const auto& [name, prompt] : prompts_.items()) {
    GenerationRequest request;
    request.prompt = prompt.at("token_ids").get<std::vector<std::int32_t>>();
    request.policy = parse_policy("full");
    request.max_tokens = 32;
    request.ignore_end_of_text = true;
    const auto ids = engine_->generate(request).token_ids;
    const auto expected = prompt.at("greedy32_ids").get<std::vector<std::int32_t>>();
    const auto margins = prompt.at("greedy32_top1_minus_top2").get<std::vector<double>>();
    ASSERT_EQ(ids.size(), expected.size()) << name;
    for (std::size_t step = 0; step < ids.size() && margins[step] >= kGreedyMargin; ++step) {
      ASSERT_EQ(ids[step], expected[step]) << name << ", step " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Backends, Golden,
    testing::Values(Setting{BackendKind::reference, Compute::f32, DType::f32, 0.002},
                    Setting{BackendKind::cpu, Compute::f32, DType::f32, 0.03},
                    Setting{BackendKind::cpu, Compute::f32, DType::f16, 0.03}),
    [](const auto& setting) {
      const std::string backend =
          setting.param.backend == BackendKind::reference ? "Reference" : "Cpu";
      return backend + (setting.param.cache_type == DType::f32 ? "F32Cache" : "F16Cache");
    });

}  // namespace
}  // namespace sift
