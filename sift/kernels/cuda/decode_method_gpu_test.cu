// Decode attention with the whole method on the device, step after step, against the CPU's states
// and scores in double precision.

#include "sift/attention/attention_state.h"
#include "sift/core/error.h"
#include "sift/kernels/cuda/decode_fixture.cuh"
#include "sift/sifting/quantile.h"

namespace sift::cuda {
namespace {

constexpr int kRequests = 64;
constexpr int kHeads = 8;
constexpr int kKvHeads = 2;
constexpr int kSteps = 40;
constexpr int kLongest = 3100;

int prompt_of(int request) { return 20 + request * 577 % 3000; }
int warmup_of(int request) {
  return 4 + request % 13;
}  // requests begin to sift at different steps

Policy policy_of(int request, AdaptTarget target) {
  Policy policy = parse_policy("sift:paper,adapt=0.05,sink=2,recent=3");
  policy.warmup = warmup_of(request);
  policy.adapt_target = target;
  return policy;
}

/// The states of all requests on the CPU.
class Oracle {
 public:
  explicit Oracle(AdaptTarget target) {
    for (int b = 0; b < kRequests; ++b) {
      states_.emplace_back(policy_of(b, target), AttentionShape{1, kHeads, kKvHeads, 64});
      states_.back().begin_prompt(prompt_of(b));
    }
  }

  AttentionState& state(int request) { return states_[request]; }
  static RowIdentity row(int request, int step) { return {prompt_of(request) + step, step}; }

  /// Records from scores in double precision, base 2 [requests, heads, kLongest]. What sifted steps
  /// did is told by the device: a key within rounding of a threshold may fall on either side.
  void step(int step, const std::vector<double>& scores, const std::vector<StepHeadFacts>& heads,
            const std::vector<StepGroupFacts>& groups) {
    for (int b = 0; b < kRequests; ++b) {
      const RowIdentity id = row(b, step);
      AttentionState& state = states_[b];
      const RowMode mode = state.mode(id);
      for (int h = 0; h < kHeads; ++h) {
        const std::size_t index = static_cast<std::size_t>(b) * kHeads + h;
        if (mode == RowMode::record) {
          state.record(0, h, id, ln_quantile(&scores[index * kLongest], id.visible));
        } else {
          state.ln_threshold(0, h, id);
          const StepHeadFacts& f = heads[index];
          state.observe_head(0, h, id, {f.kept, f.kept_eligible, f.kept_mass, f.empty != 0});
        }
      }
      if (mode == RowMode::record) {
        state.observe_dense(0, id);
        continue;
      }
      for (int k = 0; k < kKvHeads; ++k) {
        const StepGroupFacts& f = groups[b * kKvHeads + k];
        state.observe_group(0, k, id, f.rows, f.rows_eligible);
      }
    }
  }

 private:
  static double ln_quantile(const double* scores, std::int64_t visible) {
    std::vector<double> natural(scores, scores + visible);
    double sum = 0;
    for (double& score : natural) {
      score *= 0.69314718055994530942;
      sum += std::exp(score);
    }
    return ln_softmax_quantile(natural, std::log(sum), 0.875);
  }

  std::vector<AttentionState> states_;
};

class MethodOnDeviceTest : public testing::TestWithParam<AdaptTarget> {};

TEST_P(MethodOnDeviceTest, StatesFollowTheCpuThroughWarmUpAndSifting) {
  const ProblemSetup setup = {kHeads,      kKvHeads, 64, std::vector<int>(kRequests, kLongest),
                              Layout::hnd, 16};
  Problem<__half> problem(setup, 0.5F);
  DeviceArray<HeadMethodState> heads(kRequests * kHeads);
  DeviceArray<GroupMethodState> groups(kRequests * kKvHeads);
  heads.fill_bytes(0);
  groups.fill_bytes(0);
  std::vector<std::int32_t> slots(kRequests);
  std::vector<std::int32_t> warmups(kRequests);
  for (int b = 0; b < kRequests; ++b) {
    slots[b] = (b * 37 + 5) % kRequests;
    warmups[b] = warmup_of(b);
  }
  const DeviceArray<std::int32_t> device_slots(slots);
  const DeviceArray<std::int32_t> device_warmups(warmups);
  DeviceArray<std::int32_t> visible(kRequests);
  DeviceArray<std::int32_t> generated(kRequests);

  DecodeArguments& a = problem.arguments;
  a.lengths = visible.data();
  a.sink = 2;
  a.recent = 3;
  a.empty = EmptyHead::zero;
  a.records = true;
  a.method.options = method_options(policy_of(0, GetParam()), Calibrate::decode);
  a.method.heads = kHeads;
  a.method.kv_heads = kKvHeads;
  a.method.head_states = heads.data();
  a.method.group_states = groups.data();
  a.method.slots = device_slots.data();
  a.method.visible = visible.data();
  a.method.generated = generated.data();
  a.method.decode_records = device_warmups.data();
  const std::size_t bytes = decode_workspace_bytes(problem.capacity());
  DeviceArray<char> workspace(bytes);
  const DecodeAttention attention(problem.capacity(), DType::f16, workspace.data(), bytes, nullptr);

  for (const char* text : {"sift:paper,fit=robust", "sift:paper,fit=offset",
                           "sift:paper,threshold=raw", "sift:paper,warmup=auto", "topk"}) {
    DecodeArguments unknown = a;
    unknown.method.options = method_options(parse_policy(text), Calibrate::decode);
    EXPECT_THROW(attention.run(unknown, nullptr), Error) << text;
  }

  Oracle oracle(GetParam());
  DeviceArray<double> scores(static_cast<std::size_t>(kRequests) * kHeads * kLongest);
  for (int step = 1; step <= kSteps; ++step) {
    std::vector<std::int32_t> lengths(kRequests);
    for (int b = 0; b < kRequests; ++b) lengths[b] = prompt_of(b) + step;
    visible.set(lengths);
    generated.set(std::vector<std::int32_t>(kRequests, step));
    fill_normal<<<64, 256>>>(problem.query().data(),
                             static_cast<std::int64_t>(problem.query().size()), 100 + step, 1.0F);
    attention.run(a, nullptr);
    reference_scores<__half><<<kRequests * kHeads, 256>>>(a, kLongest, scores.data());
    must(cudaDeviceSynchronize());
    oracle.step(step, scores.host(), problem.head_facts(), problem.group_facts());
  }

  const std::vector<HeadMethodState> found = heads.host();
  const std::vector<GroupMethodState> found_groups = groups.host();
  for (int b = 0; b < kRequests; ++b) {
    AttentionTotals device;
    for (int h = 0; h < kHeads; ++h) {
      const HeadMethodState& state = found[slots[b] * kHeads + h];
      const HeadState& expected = oracle.state(b).head_state(0, h);
      ASSERT_TRUE(state.head.fitted) << "request " << b << " head " << h;
      EXPECT_EQ(state.head.fit.count, expected.fit.count);
      EXPECT_NEAR(state.head.fit.sum_y, expected.fit.sum_y, 2e-3);
      const double keys = prompt_of(b) + warmup_of(b);
      EXPECT_NEAR(state.head.law.ln_threshold(static_cast<std::int64_t>(keys)),
                  expected.law.ln_threshold(static_cast<std::int64_t>(keys)), 1e-3)
          << "request " << b << " head " << h;
      EXPECT_NEAR(state.head.correction, expected.correction, 1e-9);
      device.heads += state.tally;
    }
    for (int k = 0; k < kKvHeads; ++k) device.groups += found_groups[slots[b] * kKvHeads + k].tally;
    const AttentionTotals expected = oracle.state(b).totals(1);
    EXPECT_EQ(device.heads.rows, expected.heads.rows);
    EXPECT_EQ(device.heads.rows_after_warmup, expected.heads.rows_after_warmup);
    EXPECT_NEAR(device.heads.pruned, expected.heads.pruned, 1e-9);
    EXPECT_NEAR(device.heads.kept_mass_after_warmup, expected.heads.kept_mass_after_warmup, 1e-9);
    EXPECT_EQ(device.groups.sparse_rows, expected.groups.sparse_rows);
    EXPECT_EQ(device.groups.dense_rows, expected.groups.dense_rows);
    EXPECT_EQ(device.groups.value_rows_read, expected.groups.value_rows_read);
    EXPECT_GT(device.groups.sparse_rows, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, MethodOnDeviceTest,
                         testing::Values(AdaptTarget::head, AdaptTarget::group));

}  // namespace
}  // namespace sift::cuda
