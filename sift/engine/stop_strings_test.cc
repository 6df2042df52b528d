#include "sift/engine/stop_strings.h"

#include <gtest/gtest.h>

#include "sift/core/error.h"

namespace sift {
namespace {

TEST(StopStrings, HoldsBackWhatMayBeAStop) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("abE"), "ab");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("x"), "ENx");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, CutsBeforeTheFirstStop) {
  StopStrings stops({"zz", "END"});
  EXPECT_EQ(stops.push("abEN"), "ab");
  EXPECT_EQ(stops.push("D and zz"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, GivesBackWhatWasHeldAtTheEnd) {
  StopStrings stops({"aab"});
  EXPECT_EQ(stops.push("xaa"), "x");
  EXPECT_EQ(stops.push("a"), "a");
  EXPECT_EQ(stops.flush(), "aa");
}

TEST(StopStrings, RefusesAnEmptyStop) { EXPECT_THROW(StopStrings({""}), Error); }

}  // namespace
}  // namespace sift
