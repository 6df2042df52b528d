#include "sift/eval/perplexity.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "sift/core/error.h"
#include "sift/model/random_model.h"
#include "sift/sampler/random.h"
#include "sift/transformer/transformer.h"

namespace sift {
namespace {

constexpr std::int64_t kContext = 192;

class Perplexity : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/perplexity_" + std::to_string(getpid()) + ".gguf";
    write_random_llama(path_, {.head_dim = 32});  // as shadows of keys need
    for (std::uint64_t i = 0; i < 2 * kContext; ++i) {
      tokens_.push_back(3 + static_cast<std::int32_t>(256 * uniform_random(5, 0, i)));
    }
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::unique_ptr<Engine> engine(BackendKind backend, Compute compute = Compute::f32) const {
    EngineOptions options;
    options.model_path = path_;
    options.backend = backend;
    options.compute = compute;
    return std::make_unique<Engine>(options);
  }

  PerplexityResult run(Engine& engine, const std::string& policy, EvaluationPath path,
                       std::int64_t prompt_tokens = 0, Score score = Score::all) const {
    PerplexityOptions options;
    options.policy = parse_policy(policy);
    options.context = kContext;
    options.prompt_tokens = prompt_tokens;
    options.score = score;
    options.path = path;
    return perplexity(engine, tokens_, options);
  }

  std::string path_;
  std::vector<std::int32_t> tokens_;
};

struct Case {
  const char* policy;
  std::int64_t prompt_tokens;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {"full", 0},
      {"sift:paper,warmup=16", 0},
      {"sift:paper,warmup=16,tau=0.5,compensate=renormalise", 8},
      {"sift:warmup=24", 100},
      {"sift:warmup=24,adapt=0.2,adapt_target=group,sink=2,recent=5,dense_rows=120", 80},
      {"sift:calibrate=decode,warmup=12,tau=0.95,fit=ols", 3},
      {"sift:warmup=24,estimate=quantised", 100},
      {"sift:paper,warmup=16,tau=0.75,estimate=quantised,bits=fp8,margin=0", 8},
      {"h2o:keep=0.25", 0},
      {"h2o:budget=40,sink=2,dense_rows=70", 50},
      {"window:sink=2,recent=30", 0},
      {"window:sink=4,recent=60", 100},
  };
  return kCases;
}

void expect_equal(const AttentionStatistics& a, const AttentionStatistics& b) {
  EXPECT_EQ(a.realised_sparsity, b.realised_sparsity);
  EXPECT_EQ(a.realised_sparsity_after_warmup, b.realised_sparsity_after_warmup);
  EXPECT_EQ(a.union_density, b.union_density);
  EXPECT_EQ(a.kept_mass, b.kept_mass);
  EXPECT_EQ(a.candidate_density, b.candidate_density);
  EXPECT_EQ(a.missed_keys, b.missed_keys);
  EXPECT_EQ(a.output_error, b.output_error);
  EXPECT_EQ(a.k_bytes_read, b.k_bytes_read);
  EXPECT_EQ(a.v_bytes_read, b.v_bytes_read);
  EXPECT_EQ(a.sparse_steps, b.sparse_steps);
  EXPECT_EQ(a.dense_steps, b.dense_steps);
  EXPECT_EQ(a.empty_steps, b.empty_steps);
}

TEST_F(Perplexity, LayerByLayerEqualsStepByStepBitwiseOnTheReference) {
  const auto reference = engine(BackendKind::reference);
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.policy);
    const auto layers = run(*reference, c.policy, EvaluationPath::prefill, c.prompt_tokens);
    const auto steps = run(*reference, c.policy, EvaluationPath::decode, c.prompt_tokens);
    EXPECT_EQ(layers.perplexity, steps.perplexity);
    EXPECT_EQ(layers.scored_tokens, 2 * (kContext - 1));
    expect_equal(layers.attention.summary(), steps.attention.summary());
  }
}

TEST_F(Perplexity, PoliciesThatEvictNothingAreFullBitwiseOnTheReference) {
  const auto reference = engine(BackendKind::reference);
  const double full = run(*reference, "full", EvaluationPath::prefill).perplexity;
  for (const char* policy : {"h2o:keep=1", "h2o:budget=192", "window:sink=0,recent=192"}) {
    const auto result = run(*reference, policy, EvaluationPath::prefill);
    EXPECT_EQ(result.perplexity, full) << policy;
    EXPECT_EQ(result.attention.summary().realised_sparsity, 0.0) << policy;
  }
}

TEST_F(Perplexity, BothPathsOfTheCpuAgreeWithTheReference) {
  const auto reference = engine(BackendKind::reference);
  const auto cpu = engine(BackendKind::cpu);
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.policy);
    const auto expected = run(*reference, c.policy, EvaluationPath::prefill, c.prompt_tokens);
    for (const auto path : {EvaluationPath::prefill, EvaluationPath::decode}) {
      const auto got = run(*cpu, c.policy, path, c.prompt_tokens);
      EXPECT_NEAR(got.perplexity, expected.perplexity, 1e-3 * expected.perplexity);
      const auto a = got.attention.summary();
      const auto b = expected.attention.summary();
      EXPECT_EQ(a.sparse_steps, b.sparse_steps);
      EXPECT_EQ(a.dense_steps, b.dense_steps);
      if (!b.realised_sparsity) continue;
      EXPECT_NEAR(*a.realised_sparsity, *b.realised_sparsity, 2e-3);
      EXPECT_NEAR(*a.union_density, *b.union_density, 2e-3);
      EXPECT_EQ(a.kept_mass.has_value(), b.kept_mass.has_value());
      EXPECT_NEAR(a.kept_mass.value_or(1), b.kept_mass.value_or(1), 2e-3);
      if (!b.candidate_density) continue;
      EXPECT_NEAR(*a.candidate_density, *b.candidate_density, 2e-3);
      EXPECT_EQ(a.missed_keys.has_value(), path == EvaluationPath::prefill);
      EXPECT_EQ(a.output_error.has_value(), path == EvaluationPath::prefill);
      if (!a.missed_keys) continue;
      EXPECT_NEAR(*a.missed_keys, *b.missed_keys, 2e-3);
      EXPECT_NEAR(*a.output_error, *b.output_error, 2e-3);
    }
  }
}

// Layer by layer the cpu backend takes every shadow; its decoding does not, and says so at once.
TEST_F(Perplexity, ThreeAndTwoBitsRunLayerByLayerOrOnTheReference) {
  const auto reference = engine(BackendKind::reference);
  const auto cpu = engine(BackendKind::cpu);
  for (const char* policy : {"sift:warmup=24,estimate=quantised,bits=3,block=16",
                             "sift:warmup=24,estimate=quantised,bits=2,block=16,margin=0"}) {
    const auto expected = run(*reference, policy, EvaluationPath::decode, 100);
    const auto layers = run(*cpu, policy, EvaluationPath::prefill, 100);
    EXPECT_NEAR(layers.perplexity, expected.perplexity, 1e-3 * expected.perplexity);
    EXPECT_NEAR(*layers.attention.summary().missed_keys, *expected.attention.summary().missed_keys,
                2e-3);
    EXPECT_THROW(run(*cpu, policy, EvaluationPath::decode, 100), Error);
    EXPECT_THROW(cpu->start_session(parse_policy(policy)), Error);
    EXPECT_NO_THROW(reference->start_session(parse_policy(policy)));
  }
}

TEST_F(Perplexity, EveryComputeModeStaysWithinItsTolerance) {
  const auto exact =
      run(*engine(BackendKind::reference), "full", EvaluationPath::prefill).perplexity;
  for (const auto& [compute, tolerance] :
       {std::pair{Compute::f32, 1e-4}, {Compute::bf16, 0.02}, {Compute::q8, 0.02}}) {
    for (const auto path : {EvaluationPath::prefill, EvaluationPath::decode}) {
      const auto got = run(*engine(BackendKind::cpu, compute), "full", path).perplexity;
      EXPECT_NEAR(got, exact, tolerance * exact);
    }
  }
}

TEST_F(Perplexity, ScoresTheRowsThatWereAskedFor) {
  const auto cpu = engine(BackendKind::cpu);
  const auto scored = [&](Score score) {
    return run(*cpu, "full", EvaluationPath::prefill, 50, score).scored_tokens / 2;
  };
  EXPECT_EQ(scored(Score::all), kContext - 1);
  EXPECT_EQ(scored(Score::second_half), kContext / 2 - 1);
  EXPECT_EQ(scored(Score::after_prompt), kContext - 50 - 1);
}

TEST_F(Perplexity, RunsWithTheGateOff) {
  const auto cpu = engine(BackendKind::cpu);
  const auto result = run(*cpu, "sift:gate=auto,warmup=8", EvaluationPath::decode, 100);
  EXPECT_EQ(result.attention.summary().dense_steps, 0);
  EXPECT_EQ(evaluation_policy(parse_policy("sift")).name, "sift:gate=off");
}

TEST_F(Perplexity, EndsInsideAWindowAndLeavesItOut) {
  const auto cpu = engine(BackendKind::cpu);
  PerplexityOptions options;
  options.policy = parse_policy("sift:paper,warmup=8");
  options.context = kContext;
  options.prompt_tokens = 100;
  options.path = EvaluationPath::decode;
  options.windows = 1;
  const PerplexityResult first_window = perplexity(*cpu, tokens_, options);
  options.windows = 2;
  for (const std::int64_t last : {std::int64_t{150}, kContext + 100, kContext + 150}) {
    std::int64_t rows_run = 0;
    const PerplexityResult result =
        perplexity(*cpu, tokens_, options, [&](const PerplexityResult& so_far, std::int64_t rows) {
          rows_run = rows;
          EXPECT_EQ(so_far.windows, rows / kContext);
          return rows < last;
        });
    EXPECT_EQ(rows_run, last);
    EXPECT_TRUE(result.interrupted);
    EXPECT_EQ(result.windows, last / kContext);
    if (result.windows == 0) {
      EXPECT_EQ(result.scored_tokens, 0);
      continue;
    }
    EXPECT_EQ(result.perplexity, first_window.perplexity);
    EXPECT_EQ(result.scored_tokens, first_window.scored_tokens);
    expect_equal(result.attention.summary(), first_window.attention.summary());
  }
}

TEST_F(Perplexity, CannotBeInterruptedAfterTheLastWindow) {
  const auto cpu = engine(BackendKind::cpu);
  PerplexityOptions options;
  options.policy = parse_policy("full");
  options.context = kContext;
  const PerplexityResult result =
      perplexity(*cpu, tokens_, options,
                 [](const PerplexityResult&, std::int64_t rows) { return rows < 2 * kContext; });
  EXPECT_FALSE(result.interrupted);
  EXPECT_EQ(result.windows, 2);
}

TEST_F(Perplexity, RefusesWhatDoesNotFit) {
  const auto cpu = engine(BackendKind::cpu);
  PerplexityOptions options;
  options.context = 513;  // the model has 512
  EXPECT_THROW(perplexity(*cpu, tokens_, options), Error);
  options.context = kContext;
  options.windows = 3;  // the text has 2
  EXPECT_THROW(perplexity(*cpu, tokens_, options), Error);
  options.windows = 1;
  options.prompt_tokens = kContext - 1;
  EXPECT_THROW(perplexity(*cpu, tokens_, options), Error);
  options.prompt_tokens = 0;
  options.policy = parse_policy("sift:calibrate=decode,warmup=192");
  EXPECT_THROW(perplexity(*cpu, tokens_, options), Error);
}

}  // namespace
}  // namespace sift
