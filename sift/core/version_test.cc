#include "sift/core/version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sift {
namespace {

TEST(Version, NamesWhatItWasBuiltFromAndWith) {
  const BuildInformation build = build_information();
  EXPECT_THAT(build.version, testing::MatchesRegex("[0-9]+[.][0-9]+[.][0-9]+"));
  EXPECT_THAT(build.commit, testing::MatchesRegex("unknown|[0-9a-f]+(-dirty)?"));
  EXPECT_THAT(build.compiler, testing::MatchesRegex("[A-Za-z]+ [0-9.]+"));
  EXPECT_THAT(build.build_type, testing::MatchesRegex("Release|RelWithDebInfo|Debug|MinSizeRel"));
}

}  // namespace
}  // namespace sift
