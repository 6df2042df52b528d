#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "sift/kernels/cuda/decode_problem.cuh"

namespace sift::cuda {

template <class T>
constexpr DType kType = DType::f16;
template <>
constexpr DType kType<__nv_bfloat16> = DType::bf16;

/// A batch on the device, its arguments, and the reference's results.
template <class T>
class Problem {
 public:
  explicit Problem(const ProblemSetup& setup, float key_deviation = 1.0F)
      : setup_(setup),
        cache_(lay_out(setup)),
        batch_(static_cast<int>(setup.lengths.size())),
        longest_(*std::max_element(setup.lengths.begin(), setup.lengths.end())),
        keys_(cache_.pages * cache_.rows_per_page * setup.kv_heads * setup.head_dim),
        values_(keys_.size()),
        query_(static_cast<std::size_t>(batch_) * setup.heads * setup.head_dim),
        output_(query_.size()),
        log_sum_exp_(static_cast<std::size_t>(batch_) * setup.heads),
        lengths_(setup.lengths),
        table_(cache_.table),
        table_begin_(cache_.table_begin),
        modes_(static_cast<std::size_t>(batch_)),
        thresholds_(log_sum_exp_.size()),
        means_(static_cast<std::size_t>(batch_) * setup.kv_heads * setup.head_dim),
        head_facts_(log_sum_exp_.size()),
        group_facts_(static_cast<std::size_t>(batch_) * setup.kv_heads) {
    fill_normal<<<1024, 256>>>(keys_.data(), static_cast<std::int64_t>(keys_.size()), 1,
                               key_deviation);
    fill_normal<<<1024, 256>>>(values_.data(), static_cast<std::int64_t>(values_.size()), 2, 1.0F);
    fill_normal<<<64, 256>>>(means_.data(), static_cast<std::int64_t>(means_.size()), 4, 1.0F);
    fill_normal<<<1024, 256>>>(query_.data(), static_cast<std::int64_t>(query_.size()), 3, 1.0F);
    must(cudaDeviceSynchronize());
    DecodeArguments& a = arguments;
    a.batch = batch_;
    a.heads = setup.heads;
    a.kv_heads = setup.kv_heads;
    a.head_dim = setup.head_dim;
    a.scale = 1.0F / std::sqrt(static_cast<float>(setup.head_dim));
    a.query = query_.data();
    a.output = output_.data();
    a.log_sum_exp = log_sum_exp_.data();
    a.cache = cache_.address;
    a.cache.keys = keys_.data();
    a.cache.values = values_.data();
    if (!cache_.table.empty()) a.cache.table = table_.data();
    if (setup.indptr) a.cache.table_begin = table_begin_.data();
    a.lengths = lengths_.data();
    a.thresholds = thresholds_.data();
    a.value_means = means_.data();
    a.head_facts = head_facts_.data();
    a.group_facts = group_facts_.data();
  }

  /// Modes by request, and thresholds at about this quantile of each head's probabilities.
  void sift(const std::vector<RequestMode>& modes, double tau) {
    host_modes_ = modes;
    must(cudaMemcpy(modes_.data(), modes.data(), modes.size(), cudaMemcpyHostToDevice));
    arguments.modes = modes_.data();
    compute_scores();
    std::vector<float> thresholds(log_sum_exp_.size());
    for (std::size_t row = 0; row < thresholds.size(); ++row) {
      std::vector<double> sorted(scores_of(row), scores_of(row) + length_of(row));
      const double lse = log_sum_exp_of(row);
      std::sort(sorted.begin(), sorted.end());
      const auto place = static_cast<std::size_t>(tau * static_cast<double>(sorted.size() - 1));
      const double above = sorted[std::min(place + 1, sorted.size() - 1)];
      thresholds[row] = static_cast<float>((sorted[place] + above) / 2 - lse);
    }
    set_thresholds(thresholds);
  }

  void set_thresholds(const std::vector<float>& thresholds) {
    host_thresholds_ = thresholds;
    must(cudaMemcpy(thresholds_.data(), thresholds.data(), thresholds.size() * sizeof(float),
                    cudaMemcpyHostToDevice));
  }

  const std::vector<float>& thresholds() const { return host_thresholds_; }

  virtual ~Problem() = default;
  virtual DecodeCapacity capacity() const {
    std::int64_t keys = 0;
    for (const int length : setup_.lengths) keys += length;
    return {batch_, setup_.heads, setup_.kv_heads, setup_.head_dim, keys};
  }

  /// Runs into poisoned outputs, `times` times, and expects the same bits each time.
  void run(int times = 3) {
    const std::size_t bytes = decode_workspace_bytes(capacity());
    DeviceArray<char> workspace(bytes);
    workspace.fill_bytes(0xFF);
    const DecodeAttention attention(capacity(), kType<T>, workspace.data(), bytes, nullptr);
    std::vector<T> before;
    for (int i = 0; i < times; ++i) {
      output_.fill_bytes(0xFF);
      log_sum_exp_.fill_bytes(0xFF);
      head_facts_.fill_bytes(0xFF);
      attention.run(arguments, nullptr);
      must(cudaDeviceSynchronize());
      const std::vector<T> now = output_.host();
      if (i > 0) {
        for (std::size_t j = 0; j < now.size(); ++j) {
          ASSERT_EQ(std::memcmp(&now[j], &before[j], sizeof(T)), 0)
              << "run " << i << " differs at " << j << ": " << static_cast<float>(now[j]) << " and "
              << static_cast<float>(before[j]);
        }
      }
      before = now;
    }
  }

  /// Compares with attention in double precision.
  void compare(double tolerance) {
    compute_scores();
    std::vector<double> weights(scores_.size());
    std::vector<char> unsure(log_sum_exp_.size());
    const std::vector<StepHeadFacts> facts = head_facts_.host();
    const std::vector<float> lse = log_sum_exp_.host();
    for (std::size_t row = 0; row < unsure.size(); ++row) {
      const double expected = log_sum_exp_of(row);
      ASSERT_NEAR(lse[row], expected, 2e-3 + 1e-5 * std::fabs(expected)) << "row " << row;
      weigh(row, expected, facts[row], weights.data() + row * longest_, unsure[row]);
    }
    const std::vector<double> reference = reference_of(weights);
    const std::vector<T> output = output_.host();
    double worst = 0;
    for (std::size_t i = 0; i < output.size(); ++i) {
      if (unsure[i / setup_.head_dim] != 0) continue;
      const double error = std::fabs(static_cast<double>(output[i]) - reference[i]);
      ASSERT_FALSE(std::isnan(error)) << "value " << i << " of " << output.size();
      worst = std::max(worst, error);
    }
    EXPECT_LE(worst, tolerance);
  }

  DecodeArguments arguments;
  std::vector<StepHeadFacts> head_facts() const { return head_facts_.host(); }
  std::vector<StepGroupFacts> group_facts() const { return group_facts_.host(); }
  std::vector<T> output() const { return output_.host(); }
  DeviceArray<T>& keys() { return keys_; }
  DeviceArray<T>& values() { return values_; }
  DeviceArray<T>& query() { return query_; }
  const ProblemSetup& setup() const { return setup_; }
  const PagedCache& cache() const { return cache_; }
  std::size_t longest() const { return static_cast<std::size_t>(longest_); }
  std::vector<float> log_sum_exp() const { return log_sum_exp_.host(); }
  /// Scores [batch, heads, longest] in base 2.
  const std::vector<double>& scores() {
    compute_scores();
    return scores_;
  }
  /// The same if the cache had these keys.
  std::vector<double> scores_of_keys(const std::vector<float>& keys) {
    DeviceArray<float> others(keys);
    DeviceArray<double> scores(log_sum_exp_.size() * longest_);
    DecodeArguments a = arguments;
    a.cache.keys = others.data();
    a.cache.page_stride *= 2;
    a.cache.slot_stride *= 2;
    a.cache.head_stride *= 2;
    reference_scores<T, float>
        <<<static_cast<unsigned>(log_sum_exp_.size()), 256>>>(a, longest_, scores.data());
    must(cudaDeviceSynchronize());
    return scores.host();
  }
  /// Outputs of keys kept with these weights [batch, heads, longest], compensated.
  std::vector<double> reference_of(const std::vector<double>& weights) {
    DeviceArray<double> device_weights(weights);
    DeviceArray<double> expected(query_.size());
    reference_output<T><<<static_cast<unsigned>(log_sum_exp_.size()), setup_.head_dim>>>(
        arguments, longest_, device_weights.data(), expected.data());
    must(cudaDeviceSynchronize());
    std::vector<double> reference = expected.host();
    compensate(reference, weights);
    return reference;
  }

 private:
  const double* scores_of(std::size_t row) const { return scores_.data() + row * longest_; }
  int length_of(std::size_t row) const { return setup_.lengths[row / setup_.heads]; }

  double log_sum_exp_of(std::size_t row) const {
    const double* scores = scores_of(row);
    const double maximum = *std::max_element(scores, scores + length_of(row));
    double sum = 0;
    for (int i = 0; i < length_of(row); ++i) sum += std::exp2(scores[i] - maximum);
    return maximum + std::log2(sum);
  }

  // What `compensation` makes of the sifted rows of an output; `weights` are those of kept keys.
  void compensate(std::vector<double>& output, const std::vector<double>& weights) const {
    const std::vector<float> means = means_.host();
    const auto dim = static_cast<std::size_t>(setup_.head_dim);
    for (std::size_t row = 0; row < log_sum_exp_.size(); ++row) {
      const std::size_t request = row / setup_.heads;
      if (host_modes_.empty() || host_modes_[request] != RequestMode::sift) continue;
      const double* of_row = weights.data() + row * longest_;
      const double mass = std::accumulate(of_row, of_row + length_of(row), 0.0);
      const std::size_t unit =
          request * setup_.kv_heads + row % setup_.heads / (setup_.heads / setup_.kv_heads);
      for (std::size_t d = 0; d < dim; ++d) {
        double& value = output[row * dim + d];
        if (arguments.compensation == Compensation::renormalise && mass > 0) value /= mass;
        if (arguments.compensation == Compensation::mean) {
          value += std::max(0.0, 1 - mass) * static_cast<double>(means[unit * dim + d]);
        }
      }
    }
  }

  void compute_scores() {
    DeviceArray<double> scores(log_sum_exp_.size() * longest_);
    reference_scores<T>
        <<<static_cast<unsigned>(log_sum_exp_.size()), 256>>>(arguments, longest_, scores.data());
    must(cudaDeviceSynchronize());
    scores_ = scores.host();
  }

  // Weights of one head's keys. A head with a key within rounding of its threshold is unsure: which
  // side it fell on is seen from the count, and its output is not compared.
  void weigh(std::size_t row, double lse, const StepHeadFacts& facts, double* weights,
             char& unsure) {
    const double* scores = scores_of(row);
    const int length = length_of(row);
    const std::size_t request = row / setup_.heads;
    const bool sifted = !host_modes_.empty() && host_modes_[request] == RequestMode::sift;
    constexpr double kRounding = 2e-4;
    int surely = 0;
    int perhaps = 0;
    double mass = 0;
    for (int key = 0; key < length; ++key) {
      const double weight = std::exp2(scores[key] - lse);
      const bool forced = key < arguments.sink || key >= length - arguments.recent;
      const double over = sifted && !forced ? scores[key] - lse - host_thresholds_[row] : 1;
      surely += over > kRounding;
      perhaps += over > -kRounding;
      weights[key] = over > 0 ? weight : 0;
      mass += weights[key];
    }
    unsure = surely != perhaps;
    if (!sifted) return;
    if (unsure == 0) EXPECT_EQ(facts.empty, perhaps == 0 ? 1 : 0) << "row " << row;
    if (perhaps == 0 && arguments.empty == EmptyHead::highest) {
      const auto key = std::max_element(scores, scores + length) - scores;
      mass = weights[key] = std::exp2(scores[key] - lse);
      surely = perhaps = 1;
    }
    EXPECT_GE(facts.kept, surely) << "row " << row;
    EXPECT_LE(facts.kept, perhaps) << "row " << row;
    if (unsure == 0) EXPECT_NEAR(facts.kept_mass, mass, 2e-3) << "row " << row;
  }

  ProblemSetup setup_;
  PagedCache cache_;
  int batch_;
  int longest_;
  DeviceArray<T> keys_;
  DeviceArray<T> values_;
  DeviceArray<T> query_;
  DeviceArray<T> output_;
  DeviceArray<float> log_sum_exp_;
  DeviceArray<int> lengths_;
  DeviceArray<std::int32_t> table_;
  DeviceArray<std::int32_t> table_begin_;
  DeviceArray<RequestMode> modes_;
  DeviceArray<float> thresholds_;
  DeviceArray<float> means_;
  DeviceArray<StepHeadFacts> head_facts_;
  DeviceArray<StepGroupFacts> group_facts_;
  std::vector<double> scores_;
  std::vector<RequestMode> host_modes_;
  std::vector<float> host_thresholds_;
};

/// Of outputs whose values are normal numbers.
template <class T>
double tolerance() {
  return kType<T> == DType::f16 ? 4e-3 : 3e-2;
}

}  // namespace sift::cuda
