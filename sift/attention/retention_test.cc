#include "sift/attention/retention.h"

#include <gtest/gtest.h>

namespace sift {
namespace {

TEST(Retention, HeavyHittersStayByTheirShare) {
  const Policy policy = parse_policy("h2o:keep=0.25");
  EXPECT_EQ(retained_rows(policy, 1), 1);
  EXPECT_EQ(retained_rows(policy, 4), 1);
  EXPECT_EQ(retained_rows(policy, 5), 2);
  EXPECT_EQ(retained_rows(policy, 4096), 1024);
  EXPECT_EQ(newest_rows(policy, 1), 1);
  EXPECT_EQ(newest_rows(policy, 8), 1);
  EXPECT_EQ(newest_rows(policy, 9), 2);
  EXPECT_EQ(newest_rows(policy, 4096), 512);
  // 0.05 · 2000 is a bit more than 100 in binary.
  EXPECT_EQ(retained_rows(parse_policy("h2o:keep=0.05"), 2000), 100);
  EXPECT_EQ(retained_rows(parse_policy("h2o:keep=1e-12"), 5), 1);  // never none
  EXPECT_EQ(retained_rows(parse_policy("h2o:keep=1"), 77), 77);
}

TEST(Retention, ABudgetTakesThePlaceOfTheShare) {
  EXPECT_EQ(retained_rows(parse_policy("h2o:budget=7"), 6), 6);
  EXPECT_EQ(retained_rows(parse_policy("h2o:budget=7"), 8), 7);
  EXPECT_EQ(newest_rows(parse_policy("h2o:budget=7"), 100), 4);
  EXPECT_EQ(newest_rows(parse_policy("h2o:budget=1"), 100), 1);
}

// What stays whatever its mass is part of the budget, or all that stays where it is more.
TEST(Retention, FirstAndNewestRowsStay) {
  const Policy policy = parse_policy("h2o:budget=10,sink=4,recent=8");
  EXPECT_EQ(newest_rows(policy, 100), 8);
  EXPECT_EQ(retained_rows(policy, 100), 12);
  EXPECT_EQ(retained_rows(policy, 11), 11);
  EXPECT_EQ(retained_rows(parse_policy("h2o:budget=20,sink=4,recent=8"), 100), 20);
  EXPECT_EQ(retained_rows(parse_policy("h2o:budget=20,recent=2147483648"), 100), 100);
  EXPECT_EQ(retained_rows(parse_policy("window:sink=4,recent=8"), 100), 12);
  EXPECT_EQ(retained_rows(parse_policy("window:sink=4,recent=8"), 5), 5);
  EXPECT_EQ(retained_rows(parse_policy("window:sink=0,recent=0"), 5), 0);
}

TEST(Retention, ShortRowsEvictNothing) {
  const Policy policy = parse_policy("h2o:keep=0.5,dense_rows=40");
  EXPECT_EQ(retained_rows(policy, 40), 40);
  EXPECT_EQ(retained_rows(policy, 41), 21);
  EXPECT_EQ(retained_rows(parse_policy("full"), 1000), 1000);
}

// So that every step evicts one row at most, and the rows that must stay are always there.
TEST(Retention, GrowsByARowAtMost) {
  for (const char* text :
       {"h2o", "h2o:keep=0.999", "h2o:keep=0.3,sink=5,recent=40", "h2o:budget=17,recent=12",
        "h2o:keep=0.1,dense_rows=60", "window:sink=3,recent=50"}) {
    const Policy policy = parse_policy(text);
    for (std::int64_t visible = 1; visible <= 300; ++visible) {
      EXPECT_LE(retained_rows(policy, visible), retained_rows(policy, visible - 1) + 1) << text;
      EXPECT_LE(newest_rows(policy, visible), newest_rows(policy, visible - 1) + 1) << text;
      EXPECT_LE(newest_rows(policy, visible), retained_rows(policy, visible)) << text;
    }
  }
}

}  // namespace
}  // namespace sift
