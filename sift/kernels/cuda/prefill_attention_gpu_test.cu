// Prefill attention by cuDNN against double precision.

#include <cstring>

#include "sift/kernels/cuda/gpu_tests.h"
#include "sift/kernels/cuda/prefill_attention_fixture.cuh"

namespace sift::cuda {
namespace {

template <class T>
class PrefillAttentionTest : public testing::Test {};
using Types = testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(PrefillAttentionTest, Types);

TYPED_TEST(PrefillAttentionTest, WholePromptsAndChunksInEveryLayout) {
  for (const Layout layout : {Layout::contiguous, Layout::hnd, Layout::nhd}) {
    for (const int tokens : {1, 2, 64, 129, 500}) {
      for (const int before : {0, 1, 63, 1000}) {
        SCOPED_TRACE(testing::Message() << "layout " << static_cast<int>(layout) << ": " << tokens
                                        << " tokens after " << before);
        Chunks<TypeParam> chunks({8, 2, 128, {before + tokens}, layout, 16}, {tokens});
        chunks.check(tolerance<TypeParam>());
      }
    }
  }
}

TYPED_TEST(PrefillAttentionTest, TakesEveryHeadDimensionAndGroup) {
  for (const Layout layout : {Layout::contiguous, Layout::hnd}) {
    for (const int head_dim : {64, 96, 128, 256}) {
      for (const int group : {1, 3, 4, 8, 16}) {
        SCOPED_TRACE(testing::Message() << "layout " << static_cast<int>(layout) << " D "
                                        << head_dim << " group " << group);
        Chunks<TypeParam> chunks({2 * group, 2, head_dim, {777}, layout, 16}, {200});
        chunks.check(tolerance<TypeParam>());
      }
    }
  }
}

TYPED_TEST(PrefillAttentionTest, TakesEveryPageSize) {
  for (const int page : {16, 32, 64, 128}) {
    SCOPED_TRACE(page);
    Chunks<TypeParam>({8, 2, 128, {1234}, Layout::hnd, page}, {300}).check(tolerance<TypeParam>());
  }
}

TYPED_TEST(PrefillAttentionTest, PromptsOfABatchHaveTheirOwnLengths) {
  for (const Layout layout : {Layout::contiguous, Layout::hnd, Layout::nhd}) {
    SCOPED_TRACE(static_cast<int>(layout));
    Chunks<TypeParam> chunks({8, 2, 128, {5, 1000, 300, 64}, layout, 16}, {5, 256, 1, 64});
    chunks.check(tolerance<TypeParam>());
  }
}

TYPED_TEST(PrefillAttentionTest, OnePlanServesAllChunks) {
  Chunks<TypeParam> chunks({8, 2, 128, {2000}, Layout::hnd, 16}, {512});
  const PrefillAttention attention(chunks.shape, kType<TypeParam>);
  for (const auto& [tokens, length] : {std::pair{512, 512}, {512, 1024}, {100, 1124}, {1, 2000}}) {
    chunks.tokens().set({tokens});
    chunks.lengths().set({length});
    const std::vector<TypeParam> found = chunks.run(attention);
    const std::vector<double> expected = chunks.reference();
    for (std::size_t i = 0; i < static_cast<std::size_t>(tokens) * 8 * 128; ++i) {
      ASSERT_NEAR(static_cast<double>(found[i]), expected[i], tolerance<TypeParam>())
          << tokens << " tokens of " << length << ", value " << i;
    }
  }
}

// Pages hold rows of other prompts, or of nobody; cuDNN multiplies their values by zero.
TEST(PrefillAttention, FiniteRowsBehindTheLengthChangeNothing) {
  for (const Layout layout : {Layout::contiguous, Layout::hnd}) {
    SCOPED_TRACE(static_cast<int>(layout));
    Chunks<__half> chunks({2, 2, 128, {1024}, layout, 64}, {100});
    const PrefillAttention attention(chunks.shape, DType::f16);
    chunks.lengths().set({1000});  // of 1,024 rows that there are
    const std::vector<__half> before = chunks.run(attention);
    // The last page's number and the rows from 1,000 on, of each KV head.
    const CacheAddress& cache = chunks.arguments.cache;
    std::int32_t last = 0;
    if (layout != Layout::contiguous) {
      must(cudaMemcpy(&last, cache.table + 1000 / 64, sizeof last, cudaMemcpyDeviceToHost));
    }
    const std::int64_t first_slot = layout == Layout::contiguous ? 1000 : 1000 % 64;
    const std::int64_t slots = layout == Layout::contiguous ? 1024 : 64;
    for (DeviceArray<__half>* side : {&chunks.keys(), &chunks.values()}) {
      std::vector<__half> rows = side->host();
      for (std::int64_t head = 0; head < 2; ++head) {
        for (std::int64_t slot = first_slot; slot < slots; ++slot) {
          for (std::int64_t d = 0; d < 128; ++d) {
            rows[(last * cache.page_stride + slot * cache.slot_stride + head * cache.head_stride) /
                     2 +
                 d] = __float2half(6e4F);
          }
        }
      }
      side->set(rows);
    }
    const std::vector<__half> after = chunks.run(attention);
    EXPECT_EQ(std::memcmp(before.data(), after.data(), before.size() * sizeof(__half)), 0);
  }
}

template <class Change>
void expect_refused(PrefillAttentionShape shape, const Change& change,
                    const std::string& sentence) {
  change(shape);
  try {
    const PrefillAttention attention(shape, DType::f16);
    ADD_FAILURE() << "expected: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(std::string(error.what()).find(sentence), std::string::npos) << error.what();
  }
}

TEST(PrefillAttention, RefusesShapesThatItDoesNotServe) {
  using Shape = PrefillAttentionShape;
  const Chunks<__half> chunks({8, 2, 128, {300}, Layout::hnd, 16}, {100});
  const auto refused = [&](const auto& change, const std::string& sentence) {
    expect_refused(chunks.shape, change, sentence);
  };
  refused([](Shape& s) { s.head_dim = 80; }, "the head dimension is 80");
  refused([](Shape& s) { s.heads = 7; }, "the number of query heads is 7");
  refused([](Shape& s) { s.tokens = 0; }, "the length of a chunk is 0");
  refused([](Shape& s) { s.keys = 99; }, "the number of keys is 99");
  refused([](Shape& s) { s.scale = 0; }, "the scale is 0");
  refused([](Shape& s) { s.cache.slot_stride = 8; }, "a stride of the cache is 8");
  refused([](Shape& s) { s.cache.page_shift = 3; }, "log2 of the page size is 3");
  refused([](Shape& s) { s.cache.table_stride = 18; }, "the stride of the table is 18");
  refused([](Shape& s) { s.pages = 0; }, "the number of pages is 0");
  EXPECT_THROW(PrefillAttention(chunks.shape, DType::f32), Error);
}

TEST(PrefillAttention, RefusesArgumentsThatDoNotFit) {
  using Arguments = PrefillAttentionArguments;
  Chunks<__half> chunks({8, 2, 128, {300}, Layout::hnd, 16}, {100});
  const PrefillAttention attention(chunks.shape, DType::f16);
  const DeviceArray<char> workspace(attention.workspace_bytes());
  const auto refused = [&](const auto& change, std::size_t bytes, const std::string& sentence) {
    Arguments arguments = chunks.arguments;
    change(arguments);
    try {
      attention.run(arguments, workspace.data(), bytes, nullptr);
      ADD_FAILURE() << "expected: " << sentence;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(sentence), std::string::npos) << error.what();
    }
  };
  const std::size_t bytes = attention.workspace_bytes();
  refused([](Arguments& a) { a.query = nullptr; }, bytes, "the query is null");
  refused([](Arguments& a) { a.output = nullptr; }, bytes, "the output is null");
  refused([](Arguments& a) { a.tokens = nullptr; }, bytes, "the array of tokens is null");
  refused([](Arguments& a) { a.cache.table = nullptr; }, bytes, "the table of pages is null");
  refused([](Arguments& a) { a.cache.slot_stride *= 2; }, bytes, "another layout");
  if (bytes > 0) refused([](Arguments&) {}, bytes - 1, "the workspace has");
}

}  // namespace
}  // namespace sift::cuda

int main(int argc, char** argv) {
  if (!sift::cuda::ready_gpu_tests(argc, argv)) return sift::cuda::kSkipped;
  return RUN_ALL_TESTS();
}
