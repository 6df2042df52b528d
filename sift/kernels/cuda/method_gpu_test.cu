#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>

#include "sift/attention/attention_state.h"
#include "sift/kernels/cuda/device_array.h"
#include "sift/kernels/cuda/gpu_tests.h"
#include "sift/kernels/cuda/method.cuh"

namespace sift::cuda {

void time_record_quantiles();

namespace {

constexpr int kRequests = 64;
constexpr int kHeads = 8;
constexpr int kKvHeads = 2;
constexpr int kGroup = kHeads / kKvHeads;
constexpr int kSteps = 1000;

struct GroupUse {
  std::int64_t rows = 0;
  std::int64_t rows_eligible = 0;
};

/// What attention would report of one step, were there any.
struct StepFacts {
  double* ln_thetas;       // [requests, heads]
  sift::HeadFacts* heads;  // [requests, heads]
  GroupUse* groups;        // [requests, kv heads]
  float* thresholds;       // [requests, heads], written where a request sifts
  RowMode* modes;          // [requests], written
};

// One block per request, one thread per head, as in a step of attention.
__global__ void run_step(const __grid_constant__ MethodStep step, const StepFacts facts) {
  const int request = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(threadIdx.x);
  const int row = request * kHeads + head;
  const RowMode mode = request_mode(step, request);
  facts.modes[request] = mode;
  if (mode == RowMode::record) record(step, request, head, facts.ln_thetas[row]);
  if (mode == RowMode::sift) facts.thresholds[row] = log2_threshold(step, request, head);
  __syncthreads();
  if (mode == RowMode::sift) observe_head(step, request, head, facts.heads[row]);
  if (head % kGroup != 0) return;
  const GroupUse& use = facts.groups[row / kGroup];
  if (mode == RowMode::sift) {
    observe_group(step, request, head / kGroup, {use.rows, use.rows_eligible, 0});
  } else {
    observe_dense(step, request, head / kGroup);
  }
}

/// What requests do with their records.
enum class Trouble { none, equal, one_refused, all_refused, floor };

Trouble trouble_of(int request) {
  return request % 8 < 4 ? Trouble::none : static_cast<Trouble>(1 + request % 4);
}

double ln_theta_of(Trouble trouble, const RowIdentity& row, std::mt19937& random) {
  const double usual = -0.7 - 0.9 * std::log(static_cast<double>(row.visible)) +
                       std::normal_distribution(0.0, 0.2)(random);
  switch (trouble) {
    case Trouble::none:
      return usual;
    case Trouble::equal:
      return -4.25;
    case Trouble::one_refused:
      return row.generated == 7 ? std::nan("") : usual;
    case Trouble::all_refused:
      return std::numeric_limits<double>::infinity();
    default:
      return -std::numeric_limits<double>::infinity();
  }
}

/// The same 64 requests on the host, one AttentionState each, and on the device.
class Requests {
 public:
  explicit Requests(const Policy& policy) : random_(3) {
    for (int request = 0; request < kRequests; ++request) {
      Policy own = policy;
      own.tau = taus_.emplace_back(0.5 + 0.007 * request);
      own.warmup = 16 + 5 * request;
      prompts_.push_back(64 + static_cast<int>(random_() % 200));
      states_.emplace_back(own, AttentionShape{1, kHeads, kKvHeads, 4});
      states_.back().begin_prompt(prompts_.back());
      const bool decodes = states_.back().calibrate() == Calibrate::decode;
      decode_records_.push_back(decodes ? static_cast<std::int32_t>(own.warmup) : 0);
      slots_.push_back((request * 37 + 11) % kRequests);
    }
    device_ = std::make_unique<Device>(*this);
    device_->step.options = method_options(policy, policy.calibrate);
  }

  /// Records the prompt rows of calibrate=prefill.
  void run_prompts() {
    const DeviceArray<RowMode> modes(kRequests);
    device_->step.modes = modes.data();
    for (std::int64_t visible = 1; visible <= 264; ++visible) {
      std::vector<RowMode> now;
      for (int request = 0; request < kRequests; ++request) {
        const bool in_prompt = visible <= prompts_[request];
        now.push_back(in_prompt ? states_[request].mode({visible, 0}) : RowMode::dense);
      }
      must(cudaMemcpy(modes.data(), now.data(), now.size(), cudaMemcpyHostToDevice));
      run([&](int) { return RowIdentity{visible, 0}; }, now);
    }
    device_->step.modes = nullptr;
  }

  void run_generated_rows() {
    for (int step = 1; step <= kSteps; ++step) {
      std::vector<RowMode> modes;
      for (int request = 0; request < kRequests; ++request) {
        modes.push_back(states_[request].mode(generated_row(request, step)));
      }
      run([&](int request) { return generated_row(request, step); }, modes);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

  void compare() const {
    const std::vector<HeadMethodState> heads = device_->head_states.host();
    const std::vector<GroupMethodState> groups = device_->group_states.host();
    for (int request = 0; request < kRequests; ++request) {
      SCOPED_TRACE(testing::Message() << "request " << request);
      AttentionTotals totals;
      for (int head = 0; head < kHeads; ++head) {
        const HeadMethodState& state = heads[slots_[request] * kHeads + head];
        compare_head(state.head, states_[request].head_state(0, head));
        totals.heads += state.tally;
        totals.degenerate_fits += state.head.fitted && state.head.law.degenerate;
        totals.ill_determined += state.head.fitted && state.head.law.ill_determined;
      }
      for (int kv_head = 0; kv_head < kKvHeads; ++kv_head) {
        totals.groups += groups[slots_[request] * kKvHeads + kv_head].tally;
      }
      compare_totals(totals, states_[request].totals(0));
      if (testing::Test::HasFatalFailure()) return;
    }
  }

 private:
  struct Device {
    explicit Device(const Requests& requests)
        : head_states(kRequests * kHeads),
          group_states(kRequests * kKvHeads),
          taus(requests.taus_),
          decode_records(requests.decode_records_),
          slots(requests.slots_) {
      head_states.fill_bytes(0);
      group_states.fill_bytes(0);
      step.heads = kHeads;
      step.kv_heads = kKvHeads;
      step.head_states = head_states.data();
      step.group_states = group_states.data();
      step.slots = slots.data();
      step.visible = visible.data();
      step.generated = generated.data();
      step.taus = taus.data();
      step.decode_records = decode_records.data();
    }
    DeviceArray<HeadMethodState> head_states;
    DeviceArray<GroupMethodState> group_states;
    DeviceArray<double> taus;
    DeviceArray<std::int32_t> decode_records;
    DeviceArray<std::int32_t> slots;
    DeviceArray<std::int32_t> visible{kRequests};
    DeviceArray<std::int32_t> generated{kRequests};
    DeviceArray<double> ln_thetas{kRequests * kHeads};
    DeviceArray<sift::HeadFacts> head_facts{kRequests * kHeads};
    DeviceArray<GroupUse> group_uses{kRequests * kKvHeads};
    DeviceArray<float> thresholds{kRequests * kHeads};
    DeviceArray<RowMode> modes{kRequests};
    MethodStep step;
  };

  RowIdentity generated_row(int request, int step) const {
    return {prompts_[request] + step, step};
  }

  sift::HeadFacts random_facts(const AttentionState& state, std::int64_t visible) {
    sift::HeadFacts facts;
    const std::int64_t eligible = state.eligible_keys(visible);
    facts.kept_eligible = static_cast<std::int64_t>(random_() % (eligible / 3 + 1));
    facts.kept = facts.kept_eligible + visible - eligible;
    facts.kept_mass = std::uniform_real_distribution(0.5, 1.0)(random_);
    facts.empty = random_() % 10 == 0;
    return facts;
  }

  // Runs one row of each request on the device and on the host.
  template <class RowOf>
  void run(const RowOf& row_of, const std::vector<RowMode>& modes) {
    std::vector<std::int32_t> visible;
    std::vector<std::int32_t> generated;
    std::vector<double> ln_thetas;
    std::vector<sift::HeadFacts> facts;
    std::vector<GroupUse> uses;
    for (int request = 0; request < kRequests; ++request) {
      const RowIdentity row = row_of(request);
      visible.push_back(static_cast<std::int32_t>(row.visible));
      generated.push_back(static_cast<std::int32_t>(row.generated));
      for (int head = 0; head < kHeads; ++head) {
        ln_thetas.push_back(ln_theta_of(trouble_of(request), row, random_));
        facts.push_back(random_facts(states_[request], row.visible));
      }
      for (int kv_head = 0; kv_head < kKvHeads; ++kv_head) {
        const sift::HeadFacts any = random_facts(states_[request], row.visible);
        uses.push_back({any.kept, any.kept_eligible});
      }
    }
    device_->visible.set(visible);
    device_->generated.set(generated);
    device_->ln_thetas.set(ln_thetas);
    device_->head_facts.set(facts);
    device_->group_uses.set(uses);
    run_step<<<kRequests, kHeads>>>(
        device_->step,
        {device_->ln_thetas.data(), device_->head_facts.data(), device_->group_uses.data(),
         device_->thresholds.data(), device_->modes.data()});
    must(cudaGetLastError());
    const std::vector<float> thresholds = device_->thresholds.host();
    ASSERT_EQ(device_->modes.host(), modes);
    for (int request = 0; request < kRequests; ++request) {
      run_on_host(request, row_of(request), modes[request], ln_thetas.data() + request * kHeads,
                  facts.data() + request * kHeads, uses.data() + request * kKvHeads,
                  thresholds.data() + request * kHeads);
    }
  }

  void run_on_host(int request, const RowIdentity& row, RowMode mode, const double* ln_thetas,
                   const sift::HeadFacts* facts, const GroupUse* uses, const float* thresholds) {
    AttentionState& state = states_[request];
    for (int head = 0; head < kHeads; ++head) {
      if (mode == RowMode::record) state.record(0, head, row, ln_thetas[head]);
      if (mode != RowMode::sift) continue;
      const double expected = state.ln_threshold(0, head, row) * kLog2E;
      ASSERT_NEAR(thresholds[head], expected, 4e-6 * (1 + std::fabs(expected)));
      state.observe_head(0, head, row, facts[head]);
    }
    if (mode != RowMode::sift) state.observe_dense(0, row);
    for (int kv_head = 0; kv_head < kKvHeads && mode == RowMode::sift; ++kv_head) {
      state.observe_group(0, kv_head, row, uses[kv_head].rows, uses[kv_head].rows_eligible);
    }
  }

  static void near(double actual, double expected, double scale = 1) {
    ASSERT_NEAR(actual, expected, 1e-12 * std::max(scale, std::fabs(expected)));
  }

  static void compare_head(const HeadState& actual, const HeadState& expected) {
    ASSERT_EQ(actual.fitted, expected.fitted);
    ASSERT_EQ(actual.law.degenerate, expected.law.degenerate);
    ASSERT_EQ(actual.law.ill_determined, expected.law.ill_determined);
    near(actual.correction, expected.correction);
    ASSERT_EQ(actual.fit.count, expected.fit.count);
    ASSERT_EQ(actual.fit.refused, expected.fit.refused);
    near(actual.fit.first_x, expected.fit.first_x);
    near(actual.fit.first_y, expected.fit.first_y);
    // Sums of up to `count` terms of about one.
    const double count = std::max(expected.fit.count, 1.0);
    near(actual.fit.sum_x, expected.fit.sum_x, count);
    near(actual.fit.sum_y, expected.fit.sum_y, count);
    near(actual.fit.sum_xx, expected.fit.sum_xx, count);
    near(actual.fit.sum_xy, expected.fit.sum_xy, count);
    near(actual.fit.sum_yy, expected.fit.sum_yy, count);
    // x is known to an ulp of ln S, and the slope divides by the spread of x.
    near(actual.law.beta, expected.law.beta, 10);
    near(actual.law.ln_alpha, expected.law.ln_alpha, 50);
  }

  static void compare_totals(const AttentionTotals& actual, const AttentionTotals& expected) {
    ASSERT_EQ(actual.degenerate_fits, expected.degenerate_fits);
    ASSERT_EQ(actual.ill_determined, expected.ill_determined);
    ASSERT_EQ(actual.heads.rows, expected.heads.rows);
    ASSERT_EQ(actual.heads.rows_after_warmup, expected.heads.rows_after_warmup);
    ASSERT_EQ(actual.heads.empty_rows, expected.heads.empty_rows);
    near(actual.heads.pruned, expected.heads.pruned);
    near(actual.heads.pruned_after_warmup, expected.heads.pruned_after_warmup);
    near(actual.heads.kept_mass_after_warmup, expected.heads.kept_mass_after_warmup);
    ASSERT_EQ(actual.groups.sparse_rows, expected.groups.sparse_rows);
    ASSERT_EQ(actual.groups.dense_rows, expected.groups.dense_rows);
    ASSERT_EQ(actual.groups.rows_after_warmup, expected.groups.rows_after_warmup);
    ASSERT_EQ(actual.groups.value_rows_read, expected.groups.value_rows_read);
    ASSERT_EQ(actual.groups.value_rows_dense, expected.groups.value_rows_dense);
    near(actual.groups.union_after_warmup, expected.groups.union_after_warmup);
  }

  std::mt19937 random_;
  std::vector<double> taus_;
  std::vector<int> prompts_;
  std::vector<std::int32_t> decode_records_;
  std::vector<std::int32_t> slots_;
  std::vector<AttentionState> states_;
  std::unique_ptr<Device> device_;
};

Policy sifting(FitKind fit, double adapt, AdaptTarget target) {
  Policy policy;
  policy.select = Select::above;
  policy.fit = fit;
  policy.adapt = adapt;
  policy.adapt_target = target;
  policy.sink = 4;
  policy.recent = 16;
  policy.dense_rows = 200;
  return policy;
}

TEST(Method, EqualsTheCpuAfterAThousandSteps) {
  for (const Policy& policy : {sifting(FitKind::ols, 0, AdaptTarget::head),
                               sifting(FitKind::ridge, 0.05, AdaptTarget::head),
                               sifting(FitKind::ridge, 0.2, AdaptTarget::group)}) {
    Requests requests(policy);
    requests.run_generated_rows();
    requests.compare();
    if (HasFatalFailure()) return;
  }
}

TEST(Method, EqualsTheCpuAfterCalibratingOnPrompts) {
  Policy policy = sifting(FitKind::ridge, 0.05, AdaptTarget::group);
  policy.calibrate = Calibrate::prefill;
  Requests requests(policy);
  requests.run_prompts();
  requests.run_generated_rows();
  requests.compare();
}

}  // namespace
}  // namespace sift::cuda

// With --time, times record_quantiles; otherwise runs the tests.
int main(int argc, char** argv) {
  if (!sift::cuda::ready_gpu_tests(argc, argv)) return sift::cuda::kSkipped;
  if (argc > 1 && std::strcmp(argv[1], "--time") == 0) {
    sift::cuda::time_record_quantiles();
    return 0;
  }
  return RUN_ALL_TESTS();
}
