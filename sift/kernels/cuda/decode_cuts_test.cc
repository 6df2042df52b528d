#include "sift/kernels/cuda/decode_cuts.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace sift::cuda {
namespace {

constexpr int kMostKeys = 262144;
constexpr int kMostSums = 64;  // of a head that one warp puts together

// Calls check(length) for all lengths near those where something changes, and some between.
template <class Check>
void for_lengths(const Check& check) {
  for (int power = 1; power <= kMostKeys; power *= 2) {
    for (int length = std::max(1, power - 70); length <= std::min(kMostKeys, power + 70);
         ++length) {
      check(length);
    }
  }
  for (int length = 1; length <= kMostKeys; length += 997) check(length);
}

TEST(DecodeCutsTest, ItemsFollowEachOtherFromTheFirstKeyToTheLast) {
  for_lengths([](int length) {
    for (const KeyCut& cut :
         {score_cut(length, false), score_cut(length, true), value_cut(length, false),
          value_cut(length, true), dense_cut(length)}) {
      const int items = cut.items(length);
      ASSERT_GE(items, 1);
      ASSERT_EQ(cut.begin(0), 0);
      ASSERT_GE(cut.begin(items), length);
      ASSERT_LT(cut.begin(items - 1), length) << length;
      for (int i = 0; i < items; ++i) ASSERT_LT(cut.begin(i), cut.begin(i + 1)) << length;
    }
  });
}

TEST(DecodeCutsTest, AWarpPutsFewSumsTogether) {
  for_lengths([](int length) {
    for (const bool estimates : {false, true}) {
      ASSERT_LE(score_cut(length, estimates).items(length), kMostSums) << length;
      ASSERT_LE(value_cut(length, estimates).items(length), kMostSums) << length;
    }
  });
}

TEST(DecodeCutsTest, ItemsOfEstimatesLieWithinThoseOfCandidates) {
  for_lengths([](int length) {
    ASSERT_LE(score_cut(length, true).log_keys, value_cut(length, true).log_keys) << length;
  });
}

}  // namespace
}  // namespace sift::cuda
