#include "sift/kernels/cuda/decode_fixture.cuh"
#include "sift/kernels/cuda/gpu_tests.h"

namespace sift::cuda {
namespace {

const std::vector<int> kRagged = {1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 2049, 5000};

template <class T>
class DecodeAttentionTest : public testing::Test {};
using Types = testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(DecodeAttentionTest, Types);

TYPED_TEST(DecodeAttentionTest, DenseEqualsDoublePrecision) {
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const int group : {1, 3, 4, 7, 8, 16}) {
      for (const Layout layout : {Layout::contiguous, Layout::hnd, Layout::nhd}) {
        SCOPED_TRACE(testing::Message() << "D " << head_dim << " group " << group << " layout "
                                        << static_cast<int>(layout));
        Problem<TypeParam> problem({2 * group, 2, head_dim, kRagged, layout, 16, group % 2 == 1});
        problem.run();
        problem.compare(tolerance<TypeParam>());
        if (this->HasFailure()) return;
      }
    }
  }
}

TYPED_TEST(DecodeAttentionTest, SiftEqualsDoublePrecision) {
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const int group : {1, 3, 4, 7, 8, 16}) {
      for (const double tau : {0.5, 0.875, 0.95}) {
        SCOPED_TRACE(testing::Message()
                     << "D " << head_dim << " group " << group << " tau " << tau);
        Problem<TypeParam> problem({2 * group, 2, head_dim, kRagged, Layout::hnd, 32, true});
        problem.sift(std::vector(kRagged.size(), RequestMode::sift), tau);
        problem.run();
        problem.compare(tolerance<TypeParam>());
        if (this->HasFailure()) return;
      }
    }
  }
}

TYPED_TEST(DecodeAttentionTest, RequestsInDifferentPhasesShareALaunch) {
  std::vector<int> lengths;
  std::vector<RequestMode> modes;
  for (int i = 0; i < 64; ++i) {
    lengths.push_back(1 + (i * 577) % 6000);
    modes.push_back(static_cast<RequestMode>(i % 3));
  }
  Problem<TypeParam> problem({8, 2, 128, lengths, Layout::nhd, 64});
  problem.arguments.sink = 4;
  problem.arguments.recent = 20;
  problem.sift(modes, 0.9);
  problem.run();
  problem.compare(tolerance<TypeParam>());
}

// More items of each kind than a launch has blocks, so that blocks go on with other items.
TYPED_TEST(DecodeAttentionTest, MoreItemsThanBlocks) {
  std::vector<int> lengths;
  for (int i = 0; i < 64; ++i) lengths.push_back(3500 + i * 9);
  Problem<TypeParam> problem({8, 8, 64, lengths, Layout::hnd, 16});
  problem.sift(std::vector(lengths.size(), RequestMode::sift), 0.9);
  problem.arguments.exact = false;
  problem.run();
  problem.compare(tolerance<TypeParam>());
}

TYPED_TEST(DecodeAttentionTest, LongContexts) {
  Problem<TypeParam> problem({8, 2, 128, {262144, 100000, 3}, Layout::hnd, 16});
  problem.sift(std::vector(3, RequestMode::sift), 0.95);
  problem.run();
  problem.compare(tolerance<TypeParam>());
}

}  // namespace
}  // namespace sift::cuda

int main(int argc, char** argv) {
  if (!sift::cuda::ready_gpu_tests(argc, argv)) return sift::cuda::kSkipped;
  return RUN_ALL_TESTS();
}
