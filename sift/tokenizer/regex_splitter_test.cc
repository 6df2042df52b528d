#include "sift/tokenizer/regex_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sift/core/error.h"

namespace sift {
namespace {

using ::testing::ElementsAre;

TEST(RegexSplitter, KeepsMatchesAndWhatLiesBetween) {
  std::vector<std::string_view> pieces;
  RegexSplitter(R"(\d)").split("ab12c", pieces);
  EXPECT_THAT(pieces, ElementsAre("ab", "1", "2", "c"));
}

TEST(RegexSplitter, EmptyTextHasNoPieces) {
  std::vector<std::string_view> pieces;
  RegexSplitter("a").split("", pieces);
  EXPECT_TRUE(pieces.empty());
}

TEST(RegexSplitter, RefusesABrokenPattern) {
  try {
    RegexSplitter("(a");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("'(a' does not compile"));
  }
}

TEST(RegexSplitter, StopsAnExponentialPattern) {
  const RegexSplitter splitter("(a+)+$");
  std::vector<std::string_view> pieces;
  try {
    splitter.split(std::string(60, 'a') + "b", pieces);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("match limit exceeded"));
  }
}

}  // namespace
}  // namespace sift
