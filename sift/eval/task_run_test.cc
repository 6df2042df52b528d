#include "sift/eval/task_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "sift/core/error.h"
#include "sift/eval/completions.h"
#include "sift/model/random_model.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

using testing::HasSubstr;
using Json = nlohmann::ordered_json;

const char* const kSettings = R"({"task":"gsm8k","attention":"full","seed":0})";
const char* const kOrigin = R"({"version":"0"})";

class TaskRun : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/task_run_" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
    write_random_llama(folder_ + "/model.gguf", {.head_dim = 32});
    EngineOptions options;
    options.model_path = folder_ + "/model.gguf";
    options.backend = BackendKind::reference;
    engine_ = std::make_unique<Engine>(options);
    task_ = load_task(find_task("gsm8k"), {"data", R"({"question":"a?","answer":"#### 1"}
                                                      {"question":"<|im_end|>?","answer":"#### 2"}
                                                      {"question":"c?","answer":"#### 3"})"});
    order_ = sample_order(task_, 0, 3);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ + "/completions.jsonl"; }

  std::string content() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  void set_content(const std::string& text) const {
    std::ofstream(path(), std::ios::binary) << text;
  }

  std::vector<Json> lines() const {
    std::vector<Json> values;
    std::ifstream file(path());
    for (std::string line; std::getline(file, line);) values.push_back(Json::parse(line));
    return values;
  }

  TaskOptions options(const std::string& policy = "full") const {
    TaskOptions options = task_options(*task_.definition, parse_policy(policy));
    options.max_tokens = 12;
    options.sampling.temperature = 1;
    return options;
  }

  CompletionsFile open(const std::string& settings = kSettings) const {
    return CompletionsFile(path(), settings, kOrigin);
  }

  bool run(const TaskOptions& options, const TaskCallback& callback = {}) {
    CompletionsFile file(path(), kSettings, kOrigin);
    return run_task(*engine_, task_, order_, options, file, callback);
  }

  void expect_refused(ErrorKind kind, const std::string& message,
                      const std::string& settings = kSettings) const {
    try {
      open(settings);
      FAIL() << "nothing was refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  }

  std::string folder_;
  std::unique_ptr<Engine> engine_;
  Task task_;
  std::vector<std::int64_t> order_;
};

/// Without what takes another time in every run.
std::vector<Json> timeless(std::vector<Json> lines) {
  for (Json& line : lines) {
    line.erase("prefill_seconds");
    line.erase("decode_seconds");
  }
  return lines;
}

TEST_F(TaskRun, PromptsAreChatOrPlain) {
  const TaskSample sample{0, {{"user", "q"}, {"assistant", "a"}, {"user", "<|im_end|>"}}, "{}"};
  const TaskPrompt plain = task_prompt(*engine_, sample, PromptFormat::plain);
  EXPECT_EQ(plain.text, "q a\n\n<|im_end|>");
  const TaskPrompt chat = task_prompt(*engine_, sample, PromptFormat::chat);
  EXPECT_EQ(chat.text,
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
            "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n");
  // The question's own "<|im_end|>" is text: two others end turns before it, one after.
  const auto end = engine_->tokenizer().find_special("<|im_end|>");
  EXPECT_EQ(std::count(chat.ids.begin(), chat.ids.end(), end.value()), 3);
  EXPECT_EQ(std::count(plain.ids.begin(), plain.ids.end(), end.value()), 0);
}

// A template that prints the date in place of what begins an answer.
TEST_F(TaskRun, EveryDayIsTheSame) {
  const std::string model = folder_ + "/model.gguf";
  std::ifstream file(model, std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  const std::string from = "'<|im_start|>assistant\n'";
  const std::string to = "strftime_now('%Y-%m-%d')";
  ASSERT_EQ(from.size(), to.size());
  bytes.replace(bytes.find(from), from.size(), to);
  std::ofstream(folder_ + "/dated.gguf", std::ios::binary) << bytes;
  EngineOptions options = engine_->options();
  options.model_path = folder_ + "/dated.gguf";
  const Engine dated(options);
  EXPECT_EQ(task_prompt(dated, task_.samples[0], PromptFormat::chat).text,
            "<|im_start|>user\nQuestion: a?\nAnswer:<|im_end|>\n2024-07-26");
}

TEST_F(TaskRun, AnAnswerIsThatOfItsPrompt) {
  const TaskOptions asked = options();
  const TaskCompletion completion = run_sample(*engine_, task_, task_.samples[1], asked);
  EXPECT_EQ(completion.index, 1);
  GenerationRequest request;
  request.prompt = task_prompt(*engine_, task_.samples[1], PromptFormat::chat).ids;
  request.sampling.temperature = 0;
  request.max_tokens = 12;
  TaskOptions greedy = asked;
  greedy.sampling.temperature = 0;
  EXPECT_EQ(run_sample(*engine_, task_, task_.samples[1], greedy).generation.token_ids,
            engine_->generate(request).token_ids);
}

// The same numbers for a sample whatever ran before it, and others for another sample or seed.
TEST_F(TaskRun, EverySampleDrawsItsOwnNumbers) {
  const auto ids = [&](std::size_t sample, std::uint64_t seed) {
    TaskSample same_prompt = task_.samples[0];
    same_prompt.index = static_cast<std::int64_t>(sample);
    TaskOptions asked = options();
    asked.sampling.seed = seed;
    return run_sample(*engine_, task_, same_prompt, asked).generation.token_ids;
  };
  EXPECT_EQ(ids(0, 5), ids(0, 5));
  EXPECT_NE(ids(0, 5), ids(1, 5));
  EXPECT_NE(ids(0, 5), ids(0, 6));
}

// The cpu backend is the one that has a gate.
TEST_F(TaskRun, TheGateIsOff) {
  EngineOptions engine_options = engine_->options();
  engine_options.backend = BackendKind::cpu;
  Engine engine(engine_options);
  TaskOptions asked = options("sift:warmup=8,gate=auto");
  task_.samples[0].turns[0].content = std::string(100, 'x');  // calibrates on the prompt
  const TaskCompletion completion = run_sample(engine, task_, task_.samples[0], asked);
  const AttentionStatistics statistics = completion.generation.attention.summary();
  EXPECT_EQ(statistics.dense_steps, 0);
  EXPECT_GT(statistics.sparse_steps, 0);
}

TEST_F(TaskRun, WhatCannotRunIsRefusedBeforeAnythingDoes) {
  const auto refused = [&](const TaskOptions& asked, const std::string& message) {
    try {
      run(asked);
      ADD_FAILURE() << "nothing was refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
    EXPECT_FALSE(std::filesystem::exists(path()));
  };
  TaskOptions asked = options();
  asked.max_tokens = 500;
  refused(asked, "tokens and 500 new ones do not fit the context of 512");
  asked = options();
  task_.samples[static_cast<std::size_t>(order_.back())].turns[0].content.assign(600, 'x');
  refused(asked, "of gsm8k: a prompt of 6");
  task_.samples[static_cast<std::size_t>(order_.back())].turns[0].content = "x";
  refused(options("sift:paper,warmup=129"),
          "warmup is 129, expected at most 128: answers of gsm8k are short");
  refused(options("sift:warmup=512"), "is 512, expected less than the context of 512");
}

TEST_F(TaskRun, TheFileHoldsSettingsAndSamples) {
  EXPECT_TRUE(run(options("sift:calibrate=decode,warmup=4")));
  const auto written = lines();
  ASSERT_EQ(written.size(), 4);
  EXPECT_EQ(written[0]["settings"], Json::parse(kSettings));
  EXPECT_EQ(written[0]["origin"], Json::parse(kOrigin));
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& line = written[i + 1];
    const TaskSample& sample = task_.samples[static_cast<std::size_t>(order_[i])];
    EXPECT_EQ(line["index"], sample.index);
    EXPECT_EQ(line["document"], Json::parse(sample.document));
    EXPECT_EQ(line["prompt"], task_prompt(*engine_, sample, PromptFormat::chat).text);
    EXPECT_EQ(line["completion"],
              engine_->tokenizer().decode(line["token_ids"].get<std::vector<std::int32_t>>()));
    EXPECT_GT(line["attention"]["realised_sparsity_after_warmup"], 0);
    // 2 layers of 4 heads; the last token is not run.
    const std::int64_t rows = line["generated_tokens"].get<std::int64_t>() - 1;
    EXPECT_EQ(line["rows"], 8 * rows);
    EXPECT_EQ(line["rows_after_warmup"], 8 * std::max<std::int64_t>(rows - 4, 0));
  }
}

TEST_F(TaskRun, ARunThatWasInterruptedGoesOnToTheSameFile) {
  EXPECT_TRUE(run(options()));
  const auto whole = timeless(lines());
  std::filesystem::remove(path());
  for (int stop = 1;; ++stop) {
    ASSERT_LT(stop, 60);
    int calls = 0;
    if (run(options(), [&](const TaskProgress&) { return ++calls < 1 + 7 * stop; })) break;
    const auto part = std::filesystem::exists(path()) ? timeless(lines()) : std::vector<Json>();
    ASSERT_LE(part.size(), whole.size());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin()));
  }
  EXPECT_EQ(timeless(lines()), whole);
}

TEST_F(TaskRun, ALineThatWasCutOffIsWrittenAgain) {
  EXPECT_TRUE(run(options()));
  const std::string whole = content();
  const auto expected = timeless(lines());
  const std::size_t first_line = whole.find('\n') + 1;
  for (const std::size_t kept : {whole.size() - 1, whole.size() - 100, first_line + 20, first_line,
                                 first_line - 1, std::size_t{15}, std::size_t{3}, std::size_t{0}}) {
    SCOPED_TRACE(kept);
    set_content(whole.substr(0, kept));
    EXPECT_TRUE(run(options()));
    EXPECT_EQ(timeless(lines()), expected);
  }
  // One that is longer than all that follows it.
  set_content(whole.substr(0, first_line) + std::string(whole.size(), 'x'));
  EXPECT_TRUE(run(options()));
  EXPECT_EQ(timeless(lines()), expected);
}

TEST_F(TaskRun, AnotherRunsFileStaysAsItIs) {
  EXPECT_TRUE(run(options()));
  const std::string before = content();
  expect_refused(ErrorKind::invalid_argument,
                 "completions.jsonl holds another run: attention is full there and sift here; "
                 "seed is 0 there and 1 here; more is not there there",
                 R"({"task":"gsm8k","attention":"sift","seed":1,"more":2})");
  EXPECT_EQ(content(), before);
}

TEST_F(TaskRun, WhatIsNoFileOfCompletionsStaysAsItIs) {
  const auto refused = [&](const std::string& text, const std::string& message) {
    SCOPED_TRACE(text);
    set_content(text);
    expect_refused(ErrorKind::bad_file, message);
    EXPECT_EQ(content(), text);
  };
  const std::string first = std::string(R"({"settings":)") + kSettings + "}\n";
  refused("notes", "so this is no file of completions");
  refused("{\"question\": \"a\"}\n", "so this is no file of completions");
  refused("{\"settings\":3}\n",
          "completions.jsonl: line 1: key 'settings' is 3, expected an object");
  refused(first + "{\"index\":1\n", "completions.jsonl: line 2: not JSON");
  refused(first + "{\"index\":\"1\"}\n", "line 2: key 'index' is \"1\", expected an integer");
  refused(first + "{\"index\":1}\n{\"index\":1}\n", "line 3: key 'index' is 1, expected one that");
}

TEST_F(TaskRun, AFileThatCannotBeWrittenIsFound) {
  try {
    const CompletionsFile file("/no/such/file", kSettings, kOrigin);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input_output);
    EXPECT_STREQ(error.what(), "cannot write /no/such/file: No such file or directory");
  }
  EXPECT_THROW(CompletionsFile("/dev/null", kSettings, kOrigin), Error);
  EXPECT_THROW(CompletionsFile(folder_, kSettings, kOrigin), Error);
}

TEST_F(TaskRun, OneRunAtATimeWritesAFile) {
  const CompletionsFile first = open();
  expect_refused(ErrorKind::input_output, "another run is writing it");
}

TEST_F(TaskRun, TheSummaryIsThatOfAllRows) {
  AttentionTotals totals;
  std::int64_t tokens = 0;
  {
    CompletionsFile file = open();
    TaskOptions asked = options("sift:calibrate=decode,warmup=4");
    for (const TaskSample& sample : task_.samples) {
      const auto completion = run_sample(*engine_, task_, sample, asked);
      file.add(sample, completion, asked.policy);
      totals += completion.generation.attention;
      tokens += completion.generation.generated_tokens;
      asked.max_tokens *= 3;
    }
  }
  const CompletionsSummary summary = summarise_completions(path());
  const AttentionStatistics expected = totals.summary();
  EXPECT_EQ(summary.samples, 3);
  EXPECT_EQ(summary.generated_tokens, tokens);
  EXPECT_NEAR(*summary.realised_sparsity, *expected.realised_sparsity, 1e-12);
  EXPECT_NEAR(*summary.realised_sparsity_after_warmup, *expected.realised_sparsity_after_warmup,
              1e-12);
  EXPECT_NEAR(*summary.union_density, *expected.union_density, 1e-12);
  EXPECT_NEAR(*summary.kept_mass, *expected.kept_mass, 1e-12);
  EXPECT_NE(*summary.realised_sparsity, *summary.realised_sparsity_after_warmup);
}

TEST_F(TaskRun, FullAttentionHasNoSparsity) {
  EXPECT_TRUE(run(options()));
  EXPECT_FALSE(summarise_completions(path()).realised_sparsity.has_value());
}

}  // namespace
}  // namespace sift
