#include "sift/attention/automatic_warmup.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace sift {
namespace {

TEST(AutomaticWarmup, ChecksAtTheEndsOfBlocks) {
  EXPECT_EQ(AutomaticWarmup::next_check(1), 64);
  EXPECT_EQ(AutomaticWarmup::next_check(64), 64);
  EXPECT_EQ(AutomaticWarmup::next_check(65), 96);
  EXPECT_EQ(AutomaticWarmup::next_check(96), 96);
  EXPECT_EQ(AutomaticWarmup::next_check(500), 512);
  for (const std::int64_t row : {1, 31, 32, 34, 64}) {
    EXPECT_FALSE(AutomaticWarmup::begins_block(row)) << row;
  }
  EXPECT_TRUE(AutomaticWarmup::begins_block(33));
  EXPECT_TRUE(AutomaticWarmup::begins_block(65));
}

// A block whose observations exceed what each head's law predicts by its bias.
bool ends_with(const std::vector<double>& biases, std::int64_t row) {
  AutomaticWarmup warmup(biases.size());
  const OffsetPowerLaw law{{.ln_alpha = 1, .beta = 0.5}};
  for (std::size_t head = 0; head < biases.size(); ++head) {
    for (std::int64_t keys = 1; keys <= 32; ++keys) warmup.observe(head, keys, 77);  // replaced
    warmup.predict(head, law);
    for (std::int64_t keys = 33; keys <= 64; ++keys) {
      // What goes up and down by as much is no bias.
      const double noise = keys % 2 == 0 ? 5 : -5;
      warmup.observe(head, keys, law.ln_threshold(keys) + biases[head] + noise);
    }
  }
  return warmup.ends_with(row);
}

TEST(AutomaticWarmup, EndsWhenHalfOfTheHeadsArePredicted) {
  EXPECT_TRUE(ends_with({0.2, -0.2, 9, -9}, 64));
  EXPECT_FALSE(ends_with({0.2, -0.3, 9, -9}, 64));
  EXPECT_TRUE(ends_with({0.2, -0.2, 9}, 96));
  EXPECT_FALSE(ends_with({0.2, -0.3, 9}, 96));
  EXPECT_FALSE(ends_with({0, 0, 0}, 95));   // not the end of a block
  EXPECT_TRUE(ends_with({9, -9, 9}, 512));  // the most
  EXPECT_FALSE(ends_with({std::nan("")}, 64));
}

}  // namespace
}  // namespace sift
