#pragma once

// What tests of prefill attention share: chunks of prompts in a cache on the device, and attention
// over them in double precision.

#include <optional>

#include "sift/core/error.h"
#include "sift/kernels/cuda/decode_fixture.cuh"
#include "sift/kernels/cuda/prefill_attention.h"

namespace sift::cuda {

/// One (prompt, token, head) a block: the row's weights, unnormalised, into weights [blocks,
/// stride], then its output [batch, tokens, heads, head_dim], one dimension a thread.
template <class T>
__global__ void reference_rows(PrefillAttentionShape s, PrefillAttentionArguments a,
                               std::int64_t stride, double* weights, double* output) {
  const auto head = static_cast<int>(blockIdx.x % s.heads);
  const auto token = static_cast<int>(blockIdx.x / s.heads % s.tokens);
  const auto request = static_cast<int>(blockIdx.x / s.heads / s.tokens);
  if (token >= a.tokens[request]) return;
  const int visible = a.lengths[request] - a.tokens[request] + token + 1;
  const int kv_head = head / (s.heads / s.kv_heads);
  const T* query = static_cast<const T*>(a.query) + std::int64_t{blockIdx.x} * s.head_dim;
  double* own = weights + blockIdx.x * stride;
  for (int key = static_cast<int>(threadIdx.x); key < visible; key += blockDim.x) {
    const T* row = reference_row<T>(a.cache, a.cache.keys, request, kv_head, key);
    double sum = 0;
    for (int d = 0; d < s.head_dim; ++d) {
      sum += static_cast<double>(Format<T>::to_float(query[d])) *
             static_cast<double>(Format<T>::to_float(row[d]));
    }
    own[key] = std::exp(sum * static_cast<double>(s.scale));  // small numbers: no maximum is needed
  }
  __syncthreads();
  double sum = 0;
  double total = 0;
  for (int key = 0; key < visible; ++key) {
    const T* row = reference_row<T>(a.cache, a.cache.values, request, kv_head, key);
    sum += own[key] * static_cast<double>(Format<T>::to_float(row[threadIdx.x]));
    total += own[key];
  }
  output[std::int64_t{blockIdx.x} * s.head_dim + threadIdx.x] = sum / total;
}

/// Chunks of prompts in a cache on the device, and what attention makes of them.
template <class T>
class Chunks {
 public:
  /// `setup.lengths`: keys that the last row of each chunk sees. `tokens`: of the chunks.
  Chunks(const ProblemSetup& setup, const std::vector<std::int32_t>& tokens)
      : cache_(lay_out(setup)),
        keys_(cache_.pages * cache_.rows_per_page * setup.kv_heads * setup.head_dim),
        values_(keys_.size()),
        table_(cache_.table),
        tokens_(tokens),
        lengths_(setup.lengths),
        query_(query_size(setup, tokens)),
        output_(query_.size()) {
    fill(keys_, 1);
    fill(values_, 2);
    fill(query_, 3);
    must(cudaDeviceSynchronize());
    shape.batch = static_cast<int>(tokens.size());
    shape.heads = setup.heads;
    shape.kv_heads = setup.kv_heads;
    shape.head_dim = setup.head_dim;
    shape.tokens = *std::max_element(tokens.begin(), tokens.end());
    shape.keys = *std::max_element(setup.lengths.begin(), setup.lengths.end());
    shape.scale = 1.0F / std::sqrt(static_cast<float>(setup.head_dim));
    shape.cache = cache_.address;
    shape.pages = cache_.pages;
    arguments.query = query_.data();
    arguments.output = output_.data();
    arguments.cache = cache_.address;
    arguments.cache.keys = keys_.data();
    arguments.cache.values = values_.data();
    if (!cache_.table.empty()) arguments.cache.table = table_.data();
    arguments.tokens = tokens_.data();
    arguments.lengths = lengths_.data();
  }

  /// Runs twice into poisoned outputs, expects the same bits, and compares with double precision.
  void check(double tolerance) {
    std::optional<PrefillAttention> attention;
    try {
      attention.emplace(shape, kType<T>);
    } catch (const Error& error) {
      FAIL() << error.what();
    }
    const std::vector<T> first = run(*attention);
    const std::vector<T> second = run(*attention);
    const std::vector<double> expected = reference();
    const std::vector<std::int32_t> tokens = tokens_.host();
    const std::size_t row = static_cast<std::size_t>(shape.heads) * shape.head_dim;
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::size_t token = i / row;
      if (static_cast<std::int64_t>(token % shape.tokens) >= tokens[token / shape.tokens]) continue;
      ASSERT_EQ(std::memcmp(&first[i], &second[i], sizeof(T)), 0) << "value " << i;
      const double error = std::fabs(static_cast<double>(first[i]) - expected[i]);
      ASSERT_FALSE(std::isnan(error)) << "value " << i;
      worst = std::max(worst, error);
    }
    EXPECT_LE(worst, tolerance);
  }

  std::vector<T> run(const PrefillAttention& attention) {
    DeviceArray<char> workspace(attention.workspace_bytes());
    workspace.fill_bytes(0xFF);
    output_.fill_bytes(0xFF);
    attention.run(arguments, workspace.data(), attention.workspace_bytes(), nullptr);
    must(cudaDeviceSynchronize());
    return output_.host();
  }

  std::vector<double> reference() {
    const std::size_t blocks = query_.size() / shape.head_dim;
    DeviceArray<double> weights(blocks * shape.keys);
    DeviceArray<double> output(query_.size());
    reference_rows<T><<<static_cast<unsigned>(blocks), shape.head_dim>>>(
        shape, arguments, shape.keys, weights.data(), output.data());
    must(cudaDeviceSynchronize());
    return output.host();
  }

  DeviceArray<T>& keys() { return keys_; }
  DeviceArray<T>& values() { return values_; }
  DeviceArray<std::int32_t>& tokens() { return tokens_; }
  DeviceArray<std::int32_t>& lengths() { return lengths_; }

  PrefillAttentionShape shape;
  PrefillAttentionArguments arguments;

 private:
  static std::size_t query_size(const ProblemSetup& setup,
                                const std::vector<std::int32_t>& tokens) {
    return tokens.size() * *std::max_element(tokens.begin(), tokens.end()) *
           static_cast<std::size_t>(setup.heads) * setup.head_dim;
  }

  static void fill(DeviceArray<T>& array, int seed) {
    fill_normal<<<256, 256>>>(array.data(), static_cast<std::int64_t>(array.size()), seed, 1.0F);
  }

  PagedCache cache_;
  DeviceArray<T> keys_;
  DeviceArray<T> values_;
  DeviceArray<std::int32_t> table_;
  DeviceArray<std::int32_t> tokens_;
  DeviceArray<std::int32_t> lengths_;
  DeviceArray<T> query_;
  DeviceArray<T> output_;
};

}  // namespace sift::cuda
