#include "sift/eval/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

#include "sift/core/error.h"
#include "tests/test_environment.h"

namespace sift {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;

const char* const kGsm8k =
    "{\"question\": \"1 + 1?\", \"answer\": \"Two.\\n#### 2\"}\n"
    "\n"
    "{\"question\": \"2 + 1?\", \"answer\": \"Three.\\n#### 3\"}\n";

const char* const kIfeval =
    R"({"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"],)"
    R"( "kwargs": [{}]})";

const char* const kMath = R"({"problem": "easy", "level": "Level 1", "solution": "\\boxed{1}"})"
                          "\n"
                          R"({"problem": "hard", "level": "Level 5", "solution": "\\boxed{2}"})"
                          "\n";

const char* const kLongGenBench =
    R"([{"prompt": "Write.\n#*# Week 1:", "type": "Week", "prefix": "#*# Week 1:", "number": 3,)"
    R"( "checks_once": {"2": "a party"}, "checks_range": {}, "checks_periodic": {}}])";

Task load(const char* task, const std::string& text, std::int64_t shots = 0,
          const std::string& examples = "") {
  return load_task(find_task(task), {"data.jsonl", text}, shots,
                   {examples.empty() ? "" : "examples.jsonl", examples});
}

void expect_refused(ErrorKind kind, const std::string& message, const char* task,
                    const std::string& text, std::int64_t shots = 0,
                    const std::string& examples = "") {
  SCOPED_TRACE(message);
  try {
    load(task, text, shots, examples);
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

testing::Matcher<ChatMessage> turn(const std::string& role, const std::string& content) {
  return AllOf(Field(&ChatMessage::role, role), Field(&ChatMessage::content, content));
}

/// `text` with the first `from` replaced.
std::string changed(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Task, Gsm8kAsksAsLmEvalDoes) {
  const Task task = load("gsm8k", kGsm8k);
  ASSERT_EQ(task.samples.size(), 2);
  EXPECT_EQ(task.samples[1].index, 1);
  EXPECT_THAT(task.samples[1].turns, ElementsAre(turn("user", "Question: 2 + 1?\nAnswer:")));
  EXPECT_EQ(task.samples[0].document, R"({"question":"1 + 1?","answer":"Two.\n#### 2"})");
}

TEST(Task, ExamplesStandBeforeEachQuestion) {
  const Task task = load("gsm8k", kGsm8k, 1, kGsm8k);
  EXPECT_THAT(task.samples[1].turns, ElementsAre(turn("user", "Question: 1 + 1?\nAnswer:"),
                                                 turn("assistant", "Two.\n#### 2"),
                                                 turn("user", "Question: 2 + 1?\nAnswer:")));
  EXPECT_EQ(task.shots, 1);
}

TEST(Task, IfevalAsksThePromptItself) {
  EXPECT_THAT(load("ifeval", kIfeval).samples[0].turns, ElementsAre(turn("user", "No commas.")));
}

TEST(Task, MathHardTakesLevelFive) {
  const Task task = load("math-hard", kMath);
  ASSERT_EQ(task.samples.size(), 1);
  EXPECT_EQ(task.samples[0].index, 1);
  EXPECT_THAT(task.samples[0].turns, ElementsAre(turn("user", "Problem:\nhard\n\nSolution:")));
  EXPECT_EQ(find_task("math-hard").shots, 4);
}

TEST(Task, LongGenBenchIsAnArray) {
  EXPECT_THAT(load("longgenbench", kLongGenBench).samples[0].turns,
              ElementsAre(turn("user", "Write.\n#*# Week 1:")));
}

TEST(Task, TheHashTellsDataAndExamplesApart) {
  const std::uint64_t hash = load("gsm8k", kGsm8k).data_hash;
  EXPECT_EQ(load("gsm8k", kGsm8k).data_hash, hash);
  EXPECT_NE(load("gsm8k", changed(kGsm8k, "1 + 1", "1 + 2")).data_hash, hash);
  EXPECT_NE(load("gsm8k", kGsm8k, 1, kGsm8k).data_hash, hash);
  EXPECT_NE(load("gsm8k", kGsm8k, 1, kGsm8k).data_hash, load("gsm8k", kGsm8k, 2, kGsm8k).data_hash);
}

TEST(Task, AnUnknownTaskIsNamed) {
  try {
    find_task("mmlu");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_STREQ(error.what(),
                 "unknown task 'mmlu'; known tasks: ifeval, math-hard, gsm8k, longgenbench");
  }
}

TEST(Task, BadDataIsRefusedWithItsPlace) {
  constexpr ErrorKind kBad = ErrorKind::bad_file;
  expect_refused(kBad, "data.jsonl: holds no sample", "gsm8k", "");
  expect_refused(kBad, "data.jsonl: holds no sample", "gsm8k", " \n\n");
  expect_refused(kBad, "data.jsonl: holds no sample", "longgenbench", "[]");
  expect_refused(kBad, "data.jsonl: line 3: not JSON from byte 2", "gsm8k",
                 changed(kGsm8k, "{\"question\": \"2", "{question\": \"2"));
  expect_refused(kBad, "data.jsonl: line 1: expected a JSON object", "gsm8k", "3\n");
  expect_refused(kBad, "data.jsonl: line 3: key 'answer' is missing", "gsm8k",
                 changed(kGsm8k, "\"answer\": \"Three", "\"reply\": \"Three"));
  expect_refused(kBad, "data.jsonl: line 1: key 'question' is 7, expected a text", "gsm8k",
                 R"({"question": 7, "answer": "a"})");
  expect_refused(kBad, "key 'question' is \"\", expected a text that is not empty", "gsm8k",
                 R"({"question": "", "answer": "a"})");
  expect_refused(kBad, "line 1: not JSON", "gsm8k", "{\"question\": \"\xff\", \"answer\": \"a\"}");
  expect_refused(kBad, "data.jsonl: line 1: a number is beyond the range of doubles", "gsm8k",
                 R"({"question": 1e999, "answer": "a"})");
  expect_refused(kBad, "nested deeper than 64", "gsm8k",
                 "{\"question\":" + std::string(100'000, '['));
  expect_refused(kBad, "key 'kwargs' is [], expected one object for each instruction", "ifeval",
                 changed(kIfeval, "[{}]", "[]"));
  expect_refused(kBad, "key 'instruction_id_list' is [1], expected a list of texts", "ifeval",
                 changed(kIfeval, "[\"punctuation:no_comma\"]", "[1]"));
  expect_refused(kBad, "key 'key' is missing", "ifeval", changed(kIfeval, "key", "id"));
  expect_refused(kBad, "holds no sample of math-hard", "math-hard",
                 changed(kMath, "Level 5", "Level 4"));
  expect_refused(kBad, "line 2: key 'solution' is missing", "math-hard",
                 changed(kMath, R"("solution": "\\boxed{2)", R"("answer": "\\boxed{2)"));
  expect_refused(kBad, "element 1: key 'number' is 0, expected an integer above 0", "longgenbench",
                 changed(kLongGenBench, "\"number\": 3", "\"number\": 0"));
  expect_refused(kBad, "key 'checks_once' is {\"x\":\"a party\"}", "longgenbench",
                 changed(kLongGenBench, "\"2\"", "\"x\""));
  expect_refused(kBad, "data.jsonl: line 2: not JSON", "longgenbench", "[\n{]");
}

TEST(Task, BadExamplesAreRefused) {
  constexpr ErrorKind kArgument = ErrorKind::invalid_argument;
  expect_refused(kArgument, "3 worked examples asked for, but examples.jsonl has 2", "gsm8k",
                 kGsm8k, 3, kGsm8k);
  expect_refused(kArgument,
                 "math-hard shows 4 worked examples before each question, expected a "
                 "file of them",
                 "math-hard", kMath, 4);
  expect_refused(kArgument, "2 worked examples asked for, but ifeval takes none", "ifeval", kIfeval,
                 2, kIfeval);
  expect_refused(ErrorKind::bad_file, "examples.jsonl: line 1: key 'problem' is missing",
                 "math-hard", kMath, 1, kGsm8k);
}

Task numbered(std::size_t count) {
  Task task;
  task.definition = &find_task("gsm8k");
  task.samples.resize(count);
  return task;
}

TEST(SampleOrder, ALargerLimitGoesOn) {
  const Task task = numbered(50);
  const auto all = sample_order(task, 0, 7);
  EXPECT_EQ(std::set<std::int64_t>(all.begin(), all.end()).size(), 50);
  EXPECT_EQ(std::ranges::max(all), 49);
  const auto some = sample_order(task, 20, 7);
  EXPECT_EQ(some.size(), 20);
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
  EXPECT_EQ(sample_order(task, 0, 7), all);
  EXPECT_NE(sample_order(task, 0, 8), all);
  EXPECT_FALSE(std::ranges::is_sorted(all));
}

// Every sample comes first equally often: 4 of them, 4000 seeds, within five standard deviations.
TEST(SampleOrder, IsFair) {
  const Task task = numbered(4);
  std::vector<int> counts(4);
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    counts[static_cast<std::size_t>(sample_order(task, 1, seed)[0])] += 1;
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 137);
}

TEST(SampleOrder, RefusesALimitBeyondTheData) {
  try {
    sample_order(numbered(4), 5, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_STREQ(error.what(), "5 samples asked for, but the data of gsm8k has 4");
  }
}

// The published files, whole.
TEST(TaskData, EverySampleIsRead) {
  SIFT_REQUIRE_DATA();
  const auto samples = [](const char* task, const std::string& path) {
    std::ifstream file(test::data_folder() + "/" + path);
    if (!file) return std::size_t{0};
    const std::string text(std::istreambuf_iterator<char>(file), {});
    return load_task(find_task(task), {path, text}).samples.size();
  };
  EXPECT_EQ(samples("ifeval", "ifeval/input_data.jsonl"), 541);
  EXPECT_EQ(samples("math-hard", "math-hard/math_level5_test.jsonl"), 1324);
  EXPECT_EQ(samples("gsm8k", "gsm8k/test.jsonl"), 1319);
  EXPECT_EQ(samples("longgenbench", "longgenbench/Dataset_short.json"), 400);
  EXPECT_EQ(samples("longgenbench", "longgenbench/Dataset_long.json"), 400);
}

}  // namespace
}  // namespace sift
