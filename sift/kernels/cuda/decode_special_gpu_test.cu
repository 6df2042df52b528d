// Inputs of decode attention that are out of the ordinary.

#include <limits>

#include "sift/core/error.h"
#include "sift/kernels/cuda/decode_fixture.cuh"

namespace sift::cuda {
namespace {

using Half = Problem<__half>;

ProblemSetup usual_setup() { return {8, 2, 128, {1, 17, 300, 2049, 5000}, Layout::hnd, 16}; }

std::vector<RequestMode> all_sifted(const ProblemSetup& setup) {
  return std::vector(setup.lengths.size(), RequestMode::sift);
}

/// Changes the key rows on the device: change(index of the value, value).
template <class Change>
void change_values(DeviceArray<__half>& array, const Change& change) {
  std::vector<__half> host = array.host();
  for (std::size_t i = 0; i < host.size(); ++i) {
    host[i] = __float2half(change(i, __half2float(host[i])));
  }
  array.set(host);
}

TEST(DecodeSpecialTest, CompensationStandsInForWhatIsLeftOut) {
  for (const Compensation compensation : {Compensation::renormalise, Compensation::mean}) {
    for (const int head_dim : {64, 96, 128, 256}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(compensation) << " D " << head_dim);
      ProblemSetup setup = usual_setup();
      setup.head_dim = head_dim;
      Half problem(setup);
      problem.arguments.compensation = compensation;
      problem.sift(all_sifted(setup), 0.8);
      problem.run();
      problem.compare(tolerance<__half>());
    }
  }
}

TEST(DecodeSpecialTest, HeadsThatKeepNothing) {
  for (const EmptyHead empty : {EmptyHead::zero, EmptyHead::highest}) {
    for (const int group : {1, 3, 4, 16}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(empty) << " group " << group);
      ProblemSetup setup = usual_setup();
      setup.heads = 2 * group;
      Half problem(setup);
      problem.arguments.empty = empty;
      problem.sift(all_sifted(setup), 0.8);
      // Every second head's threshold is above all probabilities.
      std::vector<float> thresholds = problem.thresholds();
      for (std::size_t i = 0; i < thresholds.size(); i += 2) thresholds[i] = 1;
      problem.set_thresholds(thresholds);
      problem.run();
      problem.compare(tolerance<__half>());
    }
  }
}

TEST(DecodeSpecialTest, EqualKeysTieAtTheThreshold) {
  ProblemSetup setup = usual_setup();
  Half problem(setup);
  change_values(problem.keys(), [](std::size_t, float) { return 0.25F; });
  problem.sift(all_sifted(setup), 0.5);
  problem.arguments.empty = EmptyHead::highest;
  std::vector<float> thresholds = problem.thresholds();
  for (float& threshold : thresholds) threshold += 0.01F;  // just above what all keys have
  problem.set_thresholds(thresholds);
  problem.run();
  for (const StepHeadFacts& facts : problem.head_facts()) {
    EXPECT_EQ(facts.kept, 1);
    EXPECT_EQ(facts.empty, 1);
  }
}

TEST(DecodeSpecialTest, OneKeyOutweighsAllOthers) {
  ProblemSetup setup = usual_setup();
  Half problem(setup);
  const std::vector<__half> query = problem.query().host();
  // Outliers of 1e4 in a few places of K.
  change_values(problem.keys(),
                [](std::size_t i, float value) { return i % 50021 == 7 ? 1e4F : value; });
  problem.sift(all_sifted(setup), 0.9);
  problem.run();
  problem.compare(tolerance<__half>());
}

TEST(DecodeSpecialTest, ScoresThatAreNoNumbersMakeTheirHeadsOutputNoNumber) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const bool sifts : {false, true}) {
      SCOPED_TRACE(testing::Message() << bad << (sifts ? " sifted" : " dense"));
      const ProblemSetup setup = {8, 2, 128, {700, 900}, Layout::contiguous, 16};
      Half problem(setup);
      if (sifts) problem.sift(all_sifted(setup), 0.8);
      // One value of the first request's key 3 under KV head 0.
      const std::size_t place = (3 * 2 + 0) * 128 + 5;
      change_values(problem.keys(),
                    [&](std::size_t i, float value) { return i == place ? bad : value; });
      problem.run(1);
      const std::vector<__half> output = problem.output();
      for (std::size_t i = 0; i < output.size(); ++i) {
        const std::size_t head = i / 128;
        const bool touched = head < 4;  // heads 0 to 3 of request 0 share KV head 0
        const float value = __half2float(output[i]);
        // −∞ scores are what an infinite key may also give; they only take the key away.
        if (!touched) {
          ASSERT_FALSE(std::isnan(value)) << "value " << i;
        } else if (std::isnan(bad)) {
          ASSERT_TRUE(std::isnan(value)) << "value " << i;
        }
      }
    }
  }
}

TEST(DecodeSpecialTest, GatedRequestsAttendExactly) {
  Half exact(usual_setup());
  exact.run();
  Half gated(usual_setup());
  gated.sift(all_sifted(usual_setup()), 0.8);
  gated.arguments.gated = true;
  gated.run();
  const std::vector<__half> expected = exact.output();
  const std::vector<__half> found = gated.output();
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(__half2float(found[i]), __half2float(expected[i])) << "value " << i;
  }
}

TEST(DecodeSpecialTest, BadArgumentsAreRefusedBeforeAnythingIsLaunched) {
  const auto refuses = [](const auto& spoil) {
    Half problem(usual_setup());
    problem.sift(all_sifted(usual_setup()), 0.8);
    spoil(problem.arguments);
    const std::size_t bytes = decode_workspace_bytes(problem.capacity());
    DeviceArray<char> workspace(bytes);
    const DecodeAttention attention(problem.capacity(), DType::f16, workspace.data(), bytes,
                                    nullptr);
    EXPECT_THROW(attention.run(problem.arguments, nullptr), Error);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  };
  refuses([](DecodeArguments& a) { a.query = nullptr; });
  refuses([](DecodeArguments& a) { a.thresholds = nullptr; });
  refuses([](DecodeArguments& a) { a.batch = 0; });
  refuses([](DecodeArguments& a) { a.batch = 6; });
  refuses([](DecodeArguments& a) { a.heads = 9; });
  refuses([](DecodeArguments& a) { a.cache.page_shift = 3; });
  refuses([](DecodeArguments& a) { a.cache.page_stride = 8; });
  refuses([](DecodeArguments& a) { a.sink = -1; });
  refuses([](DecodeArguments& a) { a.query = static_cast<const __half*>(a.query) + 1; });
  refuses([](DecodeArguments& a) { a.exact = false, a.gated = true; });
  refuses([](DecodeArguments& a) { a.exact = false, a.modes = nullptr; });
  refuses([](DecodeArguments& a) {
    a.compensation = Compensation::mean;
    a.value_means = nullptr;
  });
  EXPECT_THROW(decode_workspace_bytes({1, 33, 2, 128, 100}), Error);
  EXPECT_THROW(decode_workspace_bytes({1, 34, 2, 128, 100}), Error);
  EXPECT_THROW(decode_workspace_bytes({513, 8, 2, 128, 100}), Error);
  EXPECT_THROW(decode_workspace_bytes({1, 8, 2, 100, 100}), Error);
  EXPECT_THROW(decode_workspace_bytes({1, 8, 2, 128, 0}), Error);
  EXPECT_THROW(decode_workspace_bytes({1, 8, 2, 128, 100, 300000}), Error);
}

}  // namespace
}  // namespace sift::cuda
