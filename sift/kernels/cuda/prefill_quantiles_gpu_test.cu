// Records of prompts, whole and in chunks, against the CPU's states and scores in double precision.

#include <cstring>
#include <limits>

#include "sift/core/error.h"
#include "sift/kernels/cuda/prefill_quantiles_fixture.cuh"

namespace sift::cuda {
namespace {

void expect_same_bits(const std::vector<HeadMethodState>& states,
                      const std::vector<HeadMethodState>& expected) {
  for (std::size_t i = 0; i < states.size(); ++i) {
    ASSERT_EQ(std::memcmp(&states[i], &expected[i], sizeof(HeadMethodState)), 0) << "state " << i;
  }
}

template <class T>
class PrefillQuantilesTest : public testing::Test {};
using Types = testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(PrefillQuantilesTest, Types);

TYPED_TEST(PrefillQuantilesTest, StatesAreThoseOfTheCpuForEveryLayout) {
  for (const Layout layout : {Layout::contiguous, Layout::hnd, Layout::nhd}) {
    for (const bool indptr : {false, true}) {
      if (indptr && layout == Layout::contiguous) continue;
      SCOPED_TRACE(testing::Message() << "layout " << static_cast<int>(layout) << indptr);
      Prompts<TypeParam> prompts({8, 2, 128, {64, 1000, 517, 3000}, layout, 16, indptr});
      prompts.compare(prompts.run(100000));
      if (this->HasFatalFailure()) return;
    }
  }
}

TYPED_TEST(PrefillQuantilesTest, TakesEveryHeadDimensionAndGroup) {
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const int group : {1, 3, 4, 8, 16}) {
      SCOPED_TRACE(testing::Message() << "D " << head_dim << " group " << group);
      Prompts<TypeParam> prompts({2 * group, 2, head_dim, {700, 90}, Layout::hnd, 32});
      prompts.compare(prompts.run(256));
      if (this->HasFatalFailure()) return;
    }
  }
}

TYPED_TEST(PrefillQuantilesTest, ChunksAndLaunchesChangeNoBit) {
  Prompts<TypeParam> prompts({8, 2, 128, {2100, 64, 1025}, Layout::hnd, 16});
  const std::vector<HeadMethodState> whole = prompts.run(100000);
  const int rows = prompts.recorded;
  prompts.compare(whole);
  for (const int chunk : {1, 37, 512, 1024}) {
    for (const std::int64_t keys : {std::int64_t{0}, std::int64_t{2100}}) {
      SCOPED_TRACE(testing::Message() << "chunks of " << chunk << ", keys " << keys);
      expect_same_bits(prompts.run(chunk, keys), whole);
      EXPECT_EQ(prompts.recorded, rows);
    }
  }
}

TYPED_TEST(PrefillQuantilesTest, ManyRowsTakeSeveralLaunches) {
  Prompts<TypeParam> prompts({4, 2, 64, {500}, Layout::contiguous});
  prompts.arguments.warmup = 100'000;  // every row from the 16th on
  prompts.run(100000);
  EXPECT_EQ(prompts.recorded, 485);
}

TEST(PrefillQuantiles, PoliciesThatEstimateRecordExactScores) {
  Prompts<__half> prompts({8, 2, 128, {300}, Layout::hnd, 16});
  const std::vector<HeadMethodState> exact = prompts.run(100);
  prompts.arguments.method.options.estimates = true;
  expect_same_bits(prompts.run(100), exact);
}

TEST(PrefillQuantiles, ShortPromptsRecordNothing) {
  Prompts<__half> prompts({8, 2, 128, {63, 1, 64}, Layout::hnd, 16});
  const std::vector<HeadMethodState> states = prompts.run(100000);
  for (const int request : {0, 1}) EXPECT_FALSE(states[prompts.slot(request) * 8].head.fitted);
  EXPECT_TRUE(states[prompts.slot(2) * 8].head.fitted);
  prompts.compare(states);
}

TEST(PrefillQuantiles, RowsThatAreNoNumbersAreRefused) {
  Prompts<__half> prompts({8, 2, 128, {300}, Layout::hnd, 16});
  std::vector<__half> query = prompts.query(0).host();
  const std::size_t row_of_32_keys = 31 * std::size_t{8} * 128;
  query[row_of_32_keys] = __float2half(std::numeric_limits<float>::quiet_NaN());
  prompts.query(0).set(query);
  prompts.arguments.warmup = 7;  // 16, 32, 64, 128, 256 keys
  const std::vector<HeadMethodState> states = prompts.run(50);
  EXPECT_EQ(states[0].head.fit.refused, 1);
  EXPECT_EQ(states[0].head.fit.count, 4);
  EXPECT_TRUE(states[0].head.law.degenerate);
  EXPECT_EQ(states[1].head.fit.refused, 0);
  EXPECT_EQ(states[1].head.fit.count, 5);
}

template <class Change>
void expect_refused(Prompts<__half>& prompts, const Change& change, const std::string& sentence) {
  const std::size_t bytes = prefill_quantiles_workspace_bytes(prompts.capacity());
  const DeviceArray<char> workspace(bytes);
  const PrefillQuantiles quantiles(prompts.capacity(), DType::f16, workspace.data(), bytes,
                                   nullptr);
  PrefillQuantilesArguments arguments = prompts.arguments;
  change(arguments);
  try {
    quantiles.run(arguments, nullptr);
    ADD_FAILURE() << "expected: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(std::string(error.what()).find(sentence), std::string::npos) << error.what();
  }
}

TEST(PrefillQuantiles, RefusesWhatDoesNotFit) {
  using Arguments = PrefillQuantilesArguments;
  Prompts<__half> prompts({8, 2, 128, {300, 100}, Layout::hnd, 16});
  const auto refused = [&](const auto& change, const std::string& sentence) {
    expect_refused(prompts, change, sentence);
  };
  refused([](Arguments& a) { a.query = nullptr; }, "the query is null");
  refused([](Arguments& a) { a.query = static_cast<const char*>(a.query) + 2; }, "multiple of 16");
  refused([](Arguments& a) { a.prompt = 301; }, "the prompt is 301");
  refused([](Arguments& a) { a.tokens = 301; }, "the length of the chunk is 301");
  refused([](Arguments& a) { a.first = -1; }, "the beginning of the chunk is -1");
  refused([](Arguments& a) { a.first = 300; }, "the beginning of the chunk is 300");
  refused([](Arguments& a) { a.warmup = 1; }, "the warm-up is 1");
  refused([](Arguments& a) { a.method.heads = 4; }, "the number of query heads is 4");
  refused([](Arguments& a) { a.method.head_states = nullptr; }, "the states of query heads");
  refused([](Arguments& a) { a.cache.keys = nullptr; }, "the key cache is null");
  const PrefillQuantilesCapacity few_keys = {8, 2, 128, 300, 299};
  EXPECT_THROW(prefill_quantiles_workspace_bytes(few_keys), Error);
  EXPECT_THROW(prefill_quantiles_workspace_bytes({8, 2, 128, 262145}), Error);
  EXPECT_THROW(PrefillQuantiles(prompts.capacity(), DType::f16, nullptr, 100, nullptr), Error);
}

}  // namespace
}  // namespace sift::cuda
