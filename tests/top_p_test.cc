// The example of a policy of one's own (examples/top_p.cc), which is linked into this program.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "sift/attention/attention_state.h"
#include "sift/core/error.h"
#include "sift/eval/perplexity.h"
#include "sift/model/random_model.h"
#include "sift/sampler/random.h"

namespace sift {
namespace {

double log_sum_exp(const std::vector<float>& scores) {
  double sum = 0;
  for (const float score : scores) sum += std::exp(double(score));
  return std::log(sum);
}

// All keys in order, until their mass reaches p.
std::vector<char> expected_keys(const std::vector<float>& scores, const Policy& policy) {
  const auto count = std::ssize(scores);
  const double lse = log_sum_exp(scores);
  std::vector<char> kept(scores.size());
  std::vector<std::ptrdiff_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(), [&](std::ptrdiff_t key) { return scores[key]; });
  double mass = 0;
  for (std::ptrdiff_t key = 0; key < count; ++key) {
    if (key >= policy.sink && key < count - policy.recent) continue;
    kept[key] = 1;
    mass += std::exp(scores[key] - lse);
  }
  for (const std::ptrdiff_t key : order) {
    if (kept[key]) continue;
    if (mass >= policy.parameters.at("p")) break;
    if (std::isinf(scores[key])) break;
    kept[key] = 1;
    mass += std::exp(scores[key] - lse);
  }
  return kept;
}

std::vector<char> found_keys(const std::vector<float>& scores, const Policy& policy) {
  AttentionState state(policy, {1, 1, 1, 8});
  state.begin_prompt(0);
  std::vector<char> kept(scores.size());
  state.select_keys(0, 0, {std::ssize(scores), 1}, scores, log_sum_exp(scores), kept);
  return kept;
}

TEST(TopP, KeepsTheFewestKeysThatReachTheMass) {
  std::mt19937_64 random(4);
  for (const std::size_t keys : {1, 2, 3, 17, 64, 500}) {
    for (const float spread : {0.0F, 0.1F, 1.0F, 5.0F}) {
      std::normal_distribution<float> normal(0, 1);
      std::vector<float> scores(keys);
      for (float& score : scores) score = spread * normal(random);
      if (keys > 16) scores[5] = scores[9] = scores[2];  // equal ones
      if (keys > 16) scores[7] = -std::numeric_limits<float>::infinity();
      for (const char* text : {"topp", "topp:p=0.5", "topp:p=0.001", "topp:p=1",
                               "topp:p=0.3,sink=2,recent=3", "topp:p=0.9,sink=1000"}) {
        const Policy policy = parse_policy(text);
        EXPECT_EQ(found_keys(scores, policy), expected_keys(scores, policy))
            << text << ", " << keys << " keys, spread " << spread;
      }
    }
  }
}

TEST(TopP, OfEqualScoresTheFirstAreKept) {
  const std::vector<float> scores(8, 1.5F);
  EXPECT_EQ(found_keys(scores, parse_policy("topp:p=0.3")),
            (std::vector<char>{1, 1, 1, 0, 0, 0, 0, 0}));
}

TEST(TopP, IsAPolicyLikeAnyOther) {
  EXPECT_EQ(parse_policy("topp:p=.9,sink=4").name, "topp:sink=4,p=0.9");
  EXPECT_THROW(parse_policy("topp:p=0"), Error);
  EXPECT_THROW(parse_policy("topp:tau=0.5"), Error);
}

PerplexityResult run(Engine& engine, const char* policy, EvaluationPath path) {
  PerplexityOptions options;
  options.policy = parse_policy(policy);
  options.context = 96;
  options.prompt_tokens = 20;
  options.path = path;
  std::vector<std::int32_t> tokens;
  for (std::uint64_t i = 0; i < 96; ++i) {
    tokens.push_back(3 + static_cast<std::int32_t>(256 * uniform_random(5, 0, i)));
  }
  return perplexity(engine, tokens, options);
}

TEST(TopP, IsTheSameOnEveryPath) {
  const std::string path = testing::TempDir() + "/top_p_" + std::to_string(getpid()) + ".gguf";
  write_random_llama(path, {});
  for (const char* policy :
       {"topp:p=0.5", "topp:p=0.8,compensate=mean,sink=2,recent=4", "topp:dense_rows=60"}) {
    SCOPED_TRACE(policy);
    EngineOptions options;
    options.model_path = path;
    options.backend = BackendKind::reference;
    Engine reference(options);
    options.backend = BackendKind::cpu;
    options.compute = Compute::f32;
    Engine cpu(options);
    const auto expected = run(reference, policy, EvaluationPath::prefill);
    const auto sparsity = *expected.attention.summary().realised_sparsity_after_warmup;
    EXPECT_GT(sparsity, 0.02);
    EXPECT_EQ(run(reference, policy, EvaluationPath::decode).perplexity, expected.perplexity);
    for (const auto way : {EvaluationPath::prefill, EvaluationPath::decode}) {
      const auto found = run(cpu, policy, way);
      EXPECT_NEAR(found.perplexity, expected.perplexity, 1e-3 * expected.perplexity);
      EXPECT_NEAR(*found.attention.summary().realised_sparsity_after_warmup, sparsity, 2e-3);
    }
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace sift
