#pragma once

// What tests of prompts share: prompts in one cache with their queries, and what the CPU makes of
// them with scores in double precision.

#include <memory>

#include "sift/attention/attention_state.h"
#include "sift/kernels/cuda/decode_fixture.cuh"
#include "sift/kernels/cuda/prefill_quantiles.h"
#include "sift/sifting/quantile.h"

namespace sift::cuda {

/// Natural scores of one prompt row: one head a block. scores [heads, stride].
template <class T>
__global__ void row_scores(CacheAddress cache, int request, const T* query, int heads, int kv_heads,
                           int head_dim, double scale, int visible, int stride, double* scores) {
  const int head = static_cast<int>(blockIdx.x);
  const T* own = query + (std::int64_t{visible - 1} * heads + head) * head_dim;
  for (int key = static_cast<int>(threadIdx.x); key < visible; key += blockDim.x) {
    const T* row = reference_row<T>(cache, cache.keys, request, head / (heads / kv_heads), key);
    double sum = 0;
    for (int d = 0; d < head_dim; ++d) {
      sum += static_cast<double>(Format<T>::to_float(own[d])) *
             static_cast<double>(Format<T>::to_float(row[d]));
    }
    scores[std::int64_t{head} * stride + key] = sum * scale;
  }
}

inline Policy prefill_policy(double tau) {
  Policy policy = parse_policy("sift:paper,calibrate=prefill,fit=ridge,warmup=24");
  policy.tau = tau;
  return policy;
}

/// Prompts in one cache, their queries, and the states that their rows make.
template <class T>
class Prompts {
 public:
  explicit Prompts(const ProblemSetup& setup)
      : setup_(setup),
        cache_(lay_out(setup)),
        longest_(*std::max_element(setup.lengths.begin(), setup.lengths.end())),
        keys_(cache_.pages * cache_.rows_per_page * setup.kv_heads * setup.head_dim),
        values_(keys_.size()),
        table_(cache_.table),
        table_begin_(cache_.table_begin),
        slots_(slots()),
        taus_(taus()),
        head_states_(setup.lengths.size() * setup.heads),
        group_states_(setup.lengths.size() * setup.kv_heads) {
    fill(keys_, 1);
    fill(values_, 2);
    for (int i = 0; i < requests(); ++i) {
      queries_.push_back(std::make_unique<DeviceArray<T>>(
          static_cast<std::size_t>(setup.lengths[i]) * setup.heads * setup.head_dim));
      fill(*queries_.back(), 10 + i);
    }
    must(cudaDeviceSynchronize());
    arguments.scale = 1.0F / std::sqrt(static_cast<float>(setup.head_dim));
    arguments.warmup = prefill_policy(0.5).warmup;
    arguments.cache = cache_.address;
    arguments.cache.keys = keys_.data();
    arguments.cache.values = values_.data();
    if (!cache_.table.empty()) arguments.cache.table = table_.data();
    if (setup.indptr) arguments.cache.table_begin = table_begin_.data();
    MethodStep& method = arguments.method;
    method.options = method_options(prefill_policy(0.5), Calibrate::prefill);
    method.heads = setup.heads;
    method.kv_heads = setup.kv_heads;
    method.head_states = head_states_.data();
    method.group_states = group_states_.data();
    method.slots = slots_.data();
    method.taus = taus_.data();
    aim(0, 0, setup.lengths[0]);
  }

  /// Runs all prompts in chunks of so many tokens, and returns the states by slot. `keys`: of the
  /// capacity.
  std::vector<HeadMethodState> run(int chunk, std::int64_t keys = 0) {
    const PrefillQuantilesCapacity capacity = this->capacity(keys);
    const std::size_t bytes = prefill_quantiles_workspace_bytes(capacity);
    DeviceArray<char> workspace(bytes);
    workspace.fill_bytes(0xFF);
    head_states_.fill_bytes(0);
    group_states_.fill_bytes(0);
    const PrefillQuantiles quantiles(capacity, kType<T>, workspace.data(), bytes, nullptr);
    recorded = 0;
    // Chunks of different prompts take turns, as in a server.
    for (int first = 0; first < longest_; first += chunk) {
      for (int request = 0; request < requests(); ++request) {
        const int tokens = std::min(chunk, setup_.lengths[request] - first);
        if (tokens <= 0) continue;
        aim(request, first, tokens);
        recorded += quantiles.run(arguments, nullptr);
      }
    }
    must(cudaDeviceSynchronize());
    for (const GroupMethodState& state : group_states_.host()) {
      EXPECT_EQ(state.tally.dense_rows, 0);  // rows of prompts count nowhere
    }
    return head_states_.host();
  }

  /// Expects the states of `found` to be those of the CPU.
  void compare(const std::vector<HeadMethodState>& found) {
    for (int request = 0; request < requests(); ++request) {
      const AttentionState expected = oracle(request);
      for (int head = 0; head < setup_.heads; ++head) {
        SCOPED_TRACE(testing::Message() << "request " << request << " head " << head);
        compare_head(found[slots()[request] * setup_.heads + head].head,
                     expected.head_state(0, head), request);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }

  PrefillQuantilesCapacity capacity(std::int64_t keys = 0) const {
    return {setup_.heads, setup_.kv_heads, setup_.head_dim, longest_, keys};
  }

  /// Points the arguments at a chunk.
  void aim(int request, int first, int tokens) {
    arguments.request = request;
    arguments.first = first;
    arguments.tokens = tokens;
    arguments.prompt = setup_.lengths[request];
    arguments.query = queries_[request]->data() +
                      static_cast<std::int64_t>(first) * setup_.heads * setup_.head_dim;
  }

  DeviceArray<T>& query(int request) { return *queries_[request]; }
  int slot(int request) const { return slots()[request]; }

  PrefillQuantilesArguments arguments;
  int recorded = 0;  ///< rows, by the last run

 private:
  int requests() const { return static_cast<int>(setup_.lengths.size()); }

  static void fill(DeviceArray<T>& array, int seed) {
    fill_normal<<<256, 256>>>(array.data(), static_cast<std::int64_t>(array.size()), seed, 1.0F);
  }

  std::vector<std::int32_t> slots() const {
    std::vector<std::int32_t> slots(setup_.lengths.size());
    for (int i = 0; i < requests(); ++i) slots[i] = requests() - 1 - i;
    return slots;
  }

  std::vector<double> taus() const {
    std::vector<double> taus(setup_.lengths.size());
    for (int i = 0; i < requests(); ++i) taus[i] = i % 2 == 0 ? 0.875 : 0.5;
    return taus;
  }

  /// The state of the CPU after it saw all rows of a prompt, with scores in double precision.
  AttentionState oracle(int request) {
    AttentionState state(prefill_policy(taus()[request]),
                         {1, setup_.heads, setup_.kv_heads, setup_.head_dim});
    state.begin_prompt(setup_.lengths[request]);
    DeviceArray<double> scores(static_cast<std::size_t>(setup_.heads) * longest_);
    for (int visible = 1; visible <= setup_.lengths[request]; ++visible) {
      const RowIdentity row = {visible, 0};
      if (state.mode(row) != RowMode::record) continue;
      row_scores<T><<<setup_.heads, 256>>>(
          arguments.cache, request, queries_[request]->data(), setup_.heads, setup_.kv_heads,
          setup_.head_dim, static_cast<double>(arguments.scale), visible, longest_, scores.data());
      const std::vector<double> host = scores.host();
      for (int head = 0; head < setup_.heads; ++head) {
        state.record(0, head, row, ln_quantile(&host[head * longest_], visible, taus()[request]));
      }
    }
    if (state.calibrate() == Calibrate::prefill) {
      for (int head = 0; head < setup_.heads; ++head) {
        state.ln_threshold(0, head, {setup_.lengths[request] + 1, 1});  // fits
      }
    }
    return state;
  }

  static double ln_quantile(const double* scores, int visible, double tau) {
    std::vector<double> own(scores, scores + visible);
    double sum = 0;
    for (const double score : own) {
      if (std::isnan(score)) return score;
      sum += std::exp(score);
    }
    return ln_softmax_quantile(own, std::log(sum), tau);
  }

  // Scores on the device are in single precision: that is all that may part the two.
  static constexpr double kRounding = 2e-4;

  void compare_head(const HeadState& found, const HeadState& expected, int request) const {
    ASSERT_EQ(found.fitted, expected.fitted);
    ASSERT_EQ(found.fit.count, expected.fit.count);
    ASSERT_EQ(found.fit.refused, expected.fit.refused);
    ASSERT_EQ(found.law.degenerate, expected.law.degenerate);
    ASSERT_EQ(found.correction, 0);
    const double count = std::max(expected.fit.count, 1.0);
    const double keys_tolerance = 1e-12 * count * 10;
    ASSERT_NEAR(found.fit.first_x, expected.fit.first_x, keys_tolerance);
    ASSERT_NEAR(found.fit.sum_x, expected.fit.sum_x, keys_tolerance);
    ASSERT_NEAR(found.fit.sum_xx, expected.fit.sum_xx, keys_tolerance * 10);
    ASSERT_NEAR(found.fit.first_y, expected.fit.first_y, kRounding);
    ASSERT_NEAR(found.fit.sum_y, expected.fit.sum_y, kRounding * count);
    ASSERT_NEAR(found.fit.sum_xy, expected.fit.sum_xy, kRounding * count * 5);
    ASSERT_NEAR(found.fit.sum_yy, expected.fit.sum_yy, kRounding * count * 10);
    const std::int64_t keys = 2 * setup_.lengths[request];
    ASSERT_NEAR(found.law.ln_threshold(keys), expected.law.ln_threshold(keys), 1e-3);
  }

  ProblemSetup setup_;
  PagedCache cache_;
  int longest_;
  DeviceArray<T> keys_;
  DeviceArray<T> values_;
  DeviceArray<std::int32_t> table_;
  DeviceArray<std::int32_t> table_begin_;
  DeviceArray<std::int32_t> slots_;
  DeviceArray<double> taus_;
  DeviceArray<HeadMethodState> head_states_;
  DeviceArray<GroupMethodState> group_states_;
  std::vector<std::unique_ptr<DeviceArray<T>>> queries_;
};

}  // namespace sift::cuda
