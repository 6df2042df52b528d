#include "sift/kernels/cuda/decode_gate.h"

#include <gtest/gtest.h>

namespace sift::cuda {
namespace {

// Heads of Llama-3.1-8B.
GateShape llama(int batch, int context, bool estimates = false) {
  return {32, 8, 128, std::int64_t{batch} * context, estimates};
}

TEST(DecodeGateTest, IndependentHeadsReadMoreTheMoreThereAre) {
  EXPECT_NEAR(independent_union(0.875, 1), 0.125, 1e-12);
  EXPECT_NEAR(independent_union(0.875, 4), 0.4138, 1e-4);
  EXPECT_NEAR(independent_union(0.95, 8), 0.3366, 1e-4);
}

TEST(DecodeGateTest, SmallStepsDoNotSift) {
  EXPECT_FALSE(sifting_pays(llama(1, 4096), independent_union(0.95, 4)));
}

TEST(DecodeGateTest, SparseStepsSift) {
  EXPECT_TRUE(sifting_pays(llama(1, 8192), independent_union(0.875, 4)));
  EXPECT_TRUE(sifting_pays(llama(64, 32768), independent_union(0.95, 4)));
}

TEST(DecodeGateTest, DenserOnesOnlyWhereThereIsMuchToRead) {
  EXPECT_FALSE(sifting_pays(llama(1, 8192), independent_union(0.75, 4)));
  EXPECT_TRUE(sifting_pays(llama(8, 8192), independent_union(0.75, 4)));
  EXPECT_FALSE(sifting_pays(llama(64, 32768), independent_union(0.5, 4)));
}

TEST(DecodeGateTest, LargeGroupsNeedMore) {
  const GateShape shape = {64, 8, 128, 8 * 8192, false};
  EXPECT_FALSE(sifting_pays(shape, 0.2));
  const GateShape longer = {64, 8, 128, 8 * 32768, false};
  EXPECT_TRUE(sifting_pays(longer, independent_union(0.95, 8)));
  EXPECT_FALSE(sifting_pays({128, 8, 128, 8 * 32768, false}, 0.01));
}

TEST(DecodeGateTest, EstimatesReadKeysOnceMore) {
  EXPECT_TRUE(sifting_pays(llama(8, 8192, true), 0.41));
  EXPECT_FALSE(sifting_pays(llama(8, 8192, true), 0.69));
  EXPECT_FALSE(sifting_pays(llama(1, 8192, true), 0.1));
  EXPECT_FALSE(sifting_pays({9, 3, 64, 8 * 32768, true}, 0.1));
}

}  // namespace
}  // namespace sift::cuda
