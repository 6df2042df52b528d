#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sift/core/error.h"
#include "sift/eval/corpus.h"
#include "sift/eval/perplexity.h"
#include "sift/eval/study_cells.h"
#include "sift/eval/study_run.h"
#include "sift/eval/study_tasks.h"
#include "sift/model/random_model.h"
#include "sift/sampler/random.h"

namespace sift {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::map<std::string, int> kinds_of(const StudyCells& cells) {
  std::map<std::string, int> kinds;
  for (const StudyCell& cell : cells.cells) kinds[cell.identity.at("kind")] += 1;
  return kinds;
}

/// The points of every curve: {chart, text, series}.
std::map<std::string, int> points_of(const StudyCells& cells) {
  std::map<std::string, int> points;
  for (const StudyCell& cell : cells.cells) {
    for (const Json& use : cell.charts) {
      points[use.dump() + cell.identity.value("text", "")] += 1;
    }
  }
  return points;
}

TEST(StudyCells, AreEachMeasuredOnce) {
  for (const bool quick : {false, true}) {
    std::set<std::string> identities;
    const StudyCells cells = paper_cells({.quick = quick});
    for (const StudyCell& cell : cells.cells) identities.insert(cell.identity.dump());
    EXPECT_EQ(identities.size(), cells.cells.size());
  }
}

TEST(StudyCells, HoldEveryExperiment) {
  const std::map<std::string, int> all = kinds_of(paper_cells({}));
  EXPECT_EQ(all.at("powerlaw"), 2 * 8);
  EXPECT_GE(all.at("perplexity"), 2 * (1 + 6 * 4 + 4 + 4 * 6));
  EXPECT_EQ(all.at("mask"), 2);
  EXPECT_EQ(all.at("generation"), 4 * 3);
  EXPECT_EQ(all.at("attention_speed"), 3 * 3 * 5);
  EXPECT_GE(all.at("decode_speed"), 1 + 4 * 7);
  const std::map<std::string, int> quick = kinds_of(paper_cells({.quick = true, .windows = 2}));
  for (const auto& [kind, count] : all) EXPECT_LE(quick.at(kind), count) << kind;
  EXPECT_EQ(quick.at("powerlaw"), 2 * 2);
}

TEST(StudyCells, GiveEveryCurveTwoPointsEvenIfQuick) {
  for (const auto& [curve, count] : points_of(paper_cells({.quick = true, .windows = 2}))) {
    if (curve.find("perplexity") == std::string::npos &&
        curve.find("compensation") == std::string::npos) {
      continue;
    }
    const bool is_line = curve.find("\"Full\"") == std::string::npos;
    EXPECT_EQ(count, is_line ? 2 : 1) << curve;
  }
}

TEST(StudyCells, ShareWhatTwoChartsDraw) {
  const StudyCells cells = paper_cells({});
  const auto found = std::ranges::find_if(cells.cells, [](const StudyCell& cell) {
    return cell.identity.value("policy", "") == "sift:paper,tau=0.875,warmup=64";
  });
  ASSERT_NE(found, cells.cells.end());
  EXPECT_EQ(found->charts, Json::parse(R"([{"chart":"perplexity","series":"Sift, w = 64"},
                                           {"chart":"intended_sparsity","series":"w = 64"}])"));
}

TEST(StudyCells, NameEachPolicyThatIsNotKnownOnce) {
  std::set<std::string> named;
  for (const LeftOut& policy : paper_cells({}).left_out) {
    EXPECT_TRUE(named.insert(policy.policy).second) << policy.policy;
    EXPECT_FALSE(policy.why.empty());
    EXPECT_THAT(policy.policy, AnyOf(HasSubstr("h2o"), HasSubstr("fit="), HasSubstr("threshold="),
                                     HasSubstr("warmup=auto")));
  }
}

TEST(StudyCells, LeaveOutWarmupsThatAWindowHasNoRoomFor) {
  for (const StudyCell& cell : paper_cells({.context = 200}).cells) {
    EXPECT_EQ(cell.identity.value("policy", "").find("warmup=128"), std::string::npos);
    EXPECT_EQ(cell.identity.value("policy", "").find("warmup=512"), std::string::npos);
  }
}

constexpr std::int64_t kContext = 300;

class StudyRun : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/study_" + std::to_string(getpid()) + ".gguf";
    write_random_llama(path_, {});
    for (std::uint64_t i = 0; i < 2 * kContext; ++i) {
      text_.push_back(3 + static_cast<std::int32_t>(256 * uniform_random(9, 0, i)));
    }
    plan_ = {.quick = true, .context = kContext, .windows = 2, .texts = {"wikitext2"}};
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::unique_ptr<Engine> engine(BackendKind backend = BackendKind::cpu) const {
    EngineOptions options;
    options.model_path = path_;
    options.backend = backend;
    options.compute = Compute::f32;
    return std::make_unique<Engine>(options);
  }

  Json run(Engine& engine, const Json& identity) const {
    StudyRunner runner(engine, plan_, {{"wikitext2", text_}}, [] { return true; });
    return *runner.run(identity);
  }

  std::string path_;
  std::vector<std::int32_t> text_;
  StudyPlan plan_;
};

TEST_F(StudyRun, GivesTheSameResultAgainTimesApart) {
  const auto first = engine();
  const auto second = engine();
  std::set<std::string> seen;
  for (const StudyCell& cell : paper_cells(plan_).cells) {
    const std::string kind = cell.identity.at("kind");
    if (kind == "attention_speed" || !seen.insert(kind).second) continue;
    const Json result = run(*first, cell.identity);
    if (kind == "decode_speed") {
      EXPECT_GT(result.at("seconds_per_token").get<double>(), 0);
    } else {
      EXPECT_EQ(result, run(*second, cell.identity)) << kind;
    }
  }
  EXPECT_EQ(seen, (std::set<std::string>{"powerlaw", "perplexity", "mask", "generation",
                                         "decode_speed"}));
}

TEST_F(StudyRun, MeasuresPerplexityAsTheCommandDoes) {
  const auto cpu = engine();
  PerplexityOptions options;
  options.policy = parse_policy("sift:paper,tau=0.5,warmup=32");
  options.context = kContext;
  options.prompt_tokens = 75;
  const PerplexityResult expected = perplexity(*cpu, text_, options);
  const Json result = run(*cpu, {{"kind", "perplexity"},
                                 {"text", "wikitext2"},
                                 {"policy", "sift:paper,tau=0.5,warmup=32"},
                                 {"prompt_tokens", 75}});
  EXPECT_EQ(result.at("perplexity"), expected.perplexity);
  EXPECT_EQ(result.at("attention").at("realised_sparsity"),
            *expected.attention.summary().realised_sparsity);
}

std::int64_t kept_keys(const Json& result) {
  std::int64_t kept = 0;
  for (const Json& layer : result.at("kept")) {
    for (const Json& head : layer) {
      for (const char digit : head.get<std::string>()) {
        kept += std::popcount(static_cast<unsigned>(std::stoi(std::string(1, digit), nullptr, 16)));
      }
    }
  }
  return kept;
}

// The last row of a window alone sifts, so what the window pruned is what its mask leaves out.
TEST_F(StudyRun, MasksAreWhatTheRowKeeps) {
  for (const double tau : {0.5, 0.9}) {
    const std::string policy = "sift:paper,tau=" + std::to_string(tau) + ",warmup=299";
    for (const BackendKind backend : {BackendKind::cpu, BackendKind::reference}) {
      const auto model = engine(backend);
      const Json result =
          run(*model,
              {{"kind", "mask"}, {"text", "wikitext2"}, {"policy", policy}, {"step", kContext}});
      PerplexityOptions options;
      options.policy = parse_policy(policy);
      options.context = kContext;
      options.windows = 1;
      const AttentionStatistics s = perplexity(*model, text_, options).attention.summary();
      const double kept = static_cast<double>(kept_keys(result)) / (8.0 * kContext);
      EXPECT_NEAR(kept, 1 - *s.realised_sparsity_after_warmup, 1e-3) << policy;
    }
  }
}

TEST_F(StudyRun, ShowsSeriesOfHeadsGoodAndBad) {
  const auto cpu = engine();
  const Json result = run(*cpu, {{"kind", "powerlaw"}, {"text", "wikitext2"}, {"window", 1}});
  EXPECT_EQ(result.at("request"), 1);
  EXPECT_EQ(result.at("fits").size(), 3U * 8 * 4);  // all, 64, 128, 256 of 300 rows
  ASSERT_EQ(result.at("series").size(), 4U);
  double before = -1e9;
  for (const Json& series : result.at("series")) {
    EXPECT_GE(series.at("r_squared").get<double>(), before);
    before = series.at("r_squared");
    const Json& points = series.at("keys_and_ln_theta");
    EXPECT_EQ(points.front()[0], 1);
    EXPECT_EQ(points.back()[0], kContext);
  }
}

TEST_F(StudyRun, EndsWhenAskedTo) {
  const auto cpu = engine();
  StudyRunner runner(*cpu, plan_, {{"wikitext2", text_}}, [] { return false; });
  EXPECT_FALSE(runner.run(
      {{"kind", "generation"}, {"prompt", "ab"}, {"policy", "full"}, {"max_tokens", 9}}));
  EXPECT_FALSE(
      runner.run({{"kind", "attention_speed"}, {"policy", "full"}, {"batch", 1}, {"context", 64}}));
}

TEST_F(StudyRun, RefusesWindowsThatCannotBe) {
  const auto cpu = engine();
  const auto message = [&](const StudyPlan& plan) -> std::string {
    try {
      const StudyRunner runner(*cpu, plan, {{"wikitext2", text_}}, [] { return true; });
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  plan_.windows = 3;
  EXPECT_THAT(message(plan_), HasSubstr("wikitext2: 3 windows of 300 tokens asked for"));
  plan_.context = 513;
  EXPECT_THAT(message(plan_),
              HasSubstr("513 tokens asked for, but the model has a context of 512"));
}

TEST(StudyTasks, CompareFullSiftedAndLargest) {
  for (const bool quick : {false, true}) {
    std::map<std::string, int> runs;
    for (const StudyTask& task : paper_tasks({.quick = quick}).tasks) {
      runs[task.task + ", " + task.series.substr(0, 4)] += 1;
      EXPECT_GE(task.samples, 30);
    }
    EXPECT_EQ(runs.at("gsm8k, Full"), 1);
    EXPECT_EQ(runs.at("gsm8k, Sift"), quick ? 2 : 4);
    EXPECT_EQ(runs.at("gsm8k, Top-"), quick ? 2 : 4);
    EXPECT_EQ(runs.contains("longgenbench, Sift"), !quick);
  }
}

TEST(StudyTasks, AddAnswersToWhatIsThere) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("tasks_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder / "gsm8k");
  const std::string path = (folder / "model.gguf").string();
  write_random_llama(path, {.context = 1024});
  std::ofstream(folder / "gsm8k" / "test.jsonl")
      << R"({"question": "How many?", "answer": "One. #### 1"})"
         "\n"
      << R"({"question": "How far?", "answer": "Two. #### 2"})"
         "\n";
  EngineOptions options;
  options.model_path = path;
  Engine engine(options);
  const StudyTask task{"gsm8k", "gsm8k/test.jsonl", "topk:keep=0.5", "Top-k", 2};
  const auto run = [&](const std::function<bool()>& proceed) {
    return run_study_task(engine, task, folder.string(), folder.string(), {{"model", "m"}},
                          proceed);
  };
  const auto content = [&] {
    std::ifstream file(folder / "completions" / "gsm8k-topk-keep-0.5.jsonl");
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  int tokens = 0;
  EXPECT_FALSE(run([&] { return ++tokens < 4; }));
  EXPECT_TRUE(run([] { return true; }));
  const std::string whole = content();
  EXPECT_EQ(std::ranges::count(whole, '\n'), 3);
  EXPECT_TRUE(run([] { return true; }));
  EXPECT_EQ(content(), whole);
  std::filesystem::remove(folder / "gsm8k" / "test.jsonl");
  EXPECT_THROW(run([] { return true; }), Error);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace sift
