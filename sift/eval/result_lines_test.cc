#include "sift/eval/result_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "sift/core/error.h"

namespace sift {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ResultLinesTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/lines_" + std::to_string(getpid()) + ".jsonl";
    std::filesystem::remove(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }

  std::string message(ErrorKind kind, const std::string& settings = kSettings) const {
    try {
      const ResultLines lines(path_, settings, "{}");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      return error.what();
    }
    return "nothing was thrown";
  }

  static constexpr const char* kSettings = R"({"model":"m","windows":2})";
  std::string path_;
};

TEST_F(ResultLinesTest, GoesOnWhereverTheRunBeforeWasKilled) {
  {
    ResultLines lines(path_, kSettings, R"({"machine":"one"})");
    lines.add(R"({"cell":1})");
    lines.add(R"({"cell":2})");
  }
  const std::string whole = content();
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    put(whole.substr(0, length));
    {
      ResultLines lines(path_, kSettings, R"({"machine":"one"})");
      for (std::size_t done = lines.lines().size(); done < 2; ++done) {
        lines.add(R"({"cell":)" + std::to_string(done + 1) + "}");
      }
      EXPECT_THAT(lines.lines(), ElementsAre(R"({"cell":1})", R"({"cell":2})"));
    }
    ASSERT_EQ(content(), whole) << length;
  }
}

TEST_F(ResultLinesTest, WritesOverATornLineThatIsLongerThanTheNext) {
  {
    ResultLines lines(path_, kSettings, "{}");
    lines.add(R"({"cell":1})");
  }
  const std::string whole = content();
  put(whole + R"({"cell":2,"text":"a result that was being written when the run was killed)");
  {
    ResultLines lines(path_, kSettings, "{}");
    lines.add(R"({"cell":2})");
  }
  EXPECT_EQ(content(), whole + R"({"cell":2})" + "\n");
}

TEST_F(ResultLinesTest, RefusesResultsOfAnotherRunAndSaysWhatDiffers) {
  { const ResultLines lines(path_, kSettings, "{}"); }
  const std::string before = content();
  EXPECT_THAT(message(ErrorKind::invalid_argument, R"({"model":"m","windows":8})"),
              HasSubstr("there windows is 2, here 8"));
  EXPECT_THAT(message(ErrorKind::invalid_argument, R"({"model":"m","windows":2,"seed":1})"),
              HasSubstr("there seed is null, here 1"));
  EXPECT_EQ(content(), before);
  EXPECT_EQ(message(ErrorKind::invalid_argument), "nothing was thrown");
}

TEST_F(ResultLinesTest, RefusesWhatIsNoResultAndLeavesIt) {
  const std::string header = R"({"settings":{"model":"m","windows":2}})"
                             "\n";
  put(header + "{\"cell\":1}\n{\"perplexity\":NaN}\n");
  EXPECT_THAT(message(ErrorKind::bad_file), HasSubstr(path_ + ": line 3: "));
  put(header + "[]\n");
  EXPECT_THAT(message(ErrorKind::bad_file), HasSubstr(path_ + ": line 2: "));
  for (const char* text : {"notes of mine", "{\"a\":1}\n", "\n"}) {
    put(text);
    EXPECT_THAT(message(ErrorKind::bad_file), HasSubstr(path_));
    EXPECT_EQ(content(), text);
  }
}

TEST_F(ResultLinesTest, RefusesAPlaceThatCannotBeWrittenAndASecondWriter) {
  const ResultLines first(path_, kSettings, "{}");
  EXPECT_THAT(message(ErrorKind::input_output), HasSubstr("another run writes"));
  try {
    const ResultLines lines("/nonexistent/lines.jsonl", kSettings, "{}");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input_output);
  }
}

}  // namespace
}  // namespace sift
