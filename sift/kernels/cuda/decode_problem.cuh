#pragma once

// What tests and benchmarks of decode attention share: a batch with its cache on the device, and
// attention over it in double precision.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "sift/kernels/cuda/decode_attention.h"
#include "sift/kernels/cuda/device_array.h"
#include "sift/kernels/cuda/device_primitives.cuh"

namespace sift::cuda {

enum class Layout { contiguous, hnd, nhd };

struct ProblemSetup {
  int heads = 32;
  int kv_heads = 8;
  int head_dim = 128;
  std::vector<int> lengths;
  Layout layout = Layout::hnd;
  int page = 16;
  bool indptr = false;  ///< pages listed one request after another, not in a rectangle
};

/// Shuffled pages for a batch, and where rows lie.
struct PagedCache {
  CacheAddress address;
  std::int64_t pages = 0;
  std::int64_t rows_per_page = 0;
  std::vector<std::int32_t> table;
  std::vector<std::int32_t> table_begin;
};

inline PagedCache lay_out(const ProblemSetup& setup) {
  PagedCache cache;
  const std::int64_t row = 2 * setup.head_dim;
  const auto batch = static_cast<std::int64_t>(setup.lengths.size());
  const int longest = *std::max_element(setup.lengths.begin(), setup.lengths.end());
  CacheAddress& address = cache.address;
  const bool paged = setup.layout != Layout::contiguous;
  cache.rows_per_page = paged ? setup.page : longest;
  address.page_stride = cache.rows_per_page * setup.kv_heads * row;
  address.slot_stride = setup.layout == Layout::hnd ? row : setup.kv_heads * row;
  address.head_stride = setup.layout == Layout::hnd ? cache.rows_per_page * row : row;
  if (!paged) {
    cache.pages = batch;
    return cache;
  }
  address.page_shift = static_cast<int>(std::lround(std::log2(setup.page)));
  const int most = (longest + setup.page - 1) / setup.page;
  for (const int length : setup.lengths) {
    cache.pages += setup.indptr ? (length + setup.page - 1) / setup.page : most;
  }
  cache.table.resize(cache.pages);
  std::iota(cache.table.begin(), cache.table.end(), 0);
  std::shuffle(cache.table.begin(), cache.table.end(), std::mt19937(7));
  address.table_stride = most;
  std::int32_t begin = 0;
  for (const int length : setup.lengths) {
    cache.table_begin.push_back(begin);
    begin += setup.indptr ? (length + setup.page - 1) / setup.page : most;
  }
  return cache;
}

/// The row [head_dim] of one key in `side`, the cache's keys or values.
template <class T>
__device__ const T* reference_row(const CacheAddress& cache, const void* side, int request,
                                  int kv_head, int key) {
  std::int64_t page = request;
  std::int64_t slot = key;
  if (cache.table != nullptr) {
    const std::int64_t begin =
        cache.table_begin != nullptr ? cache.table_begin[request] : request * cache.table_stride;
    page = cache.table[begin + (key >> cache.page_shift)];
    slot = key & ((1 << cache.page_shift) - 1);
  }
  return reinterpret_cast<const T*>(static_cast<const char*>(side) + page * cache.page_stride +
                                    slot * cache.slot_stride + kv_head * cache.head_stride);
}

template <>
struct Format<float> {
  static __device__ float from_float(float x) { return x; }
  static __device__ float to_float(float x) { return x; }
};

/// Scores of one (request, head) a block, times log2 e, in double: scores[request · heads +
/// head][key].
/// Keys are of type K.
template <class T, class K = T>
__global__ void reference_scores(DecodeArguments a, std::int64_t stride, double* scores) {
  const int head = blockIdx.x % a.heads;
  const int request = blockIdx.x / a.heads;
  const int kv_head = head / (a.heads / a.kv_heads);
  const T* query = static_cast<const T*>(a.query) + std::int64_t{blockIdx.x} * a.head_dim;
  for (int key = threadIdx.x; key < a.lengths[request]; key += blockDim.x) {
    const K* row = reference_row<K>(a.cache, a.cache.keys, request, kv_head, key);
    double sum = 0;
    for (int d = 0; d < a.head_dim; ++d) {
      sum += static_cast<double>(Format<T>::to_float(query[d])) *
             static_cast<double>(Format<K>::to_float(row[d]));
    }
    scores[blockIdx.x * stride + key] = sum * a.scale * 1.4426950408889634;
  }
}

/// Σ weights[key] · V[key]: one (request, head) a block, one dimension a thread.
template <class T>
__global__ void reference_output(DecodeArguments a, std::int64_t stride, const double* weights,
                                 double* output) {
  const int head = blockIdx.x % a.heads;
  const int request = blockIdx.x / a.heads;
  const int kv_head = head / (a.heads / a.kv_heads);
  double sum = 0;
  for (int key = 0; key < a.lengths[request]; ++key) {
    const double weight = weights[blockIdx.x * stride + key];
    if (weight == 0) continue;
    const T* row = reference_row<T>(a.cache, a.cache.values, request, kv_head, key);
    sum += weight * static_cast<double>(Format<T>::to_float(row[threadIdx.x]));
  }
  output[std::int64_t{blockIdx.x} * a.head_dim + threadIdx.x] = sum;
}

/// Normal numbers, the same for the same seed.
template <class T>
__global__ void fill_normal(T* values, std::int64_t count, std::uint64_t seed, float deviation) {
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    std::uint64_t x =
        (static_cast<std::uint64_t>(i) + seed * 0x9E3779B97F4A7C15ULL) * 0xBF58476D1CE4E5B9ULL;
    x ^= x >> 31;
    x *= 0x94D049BB133111EBULL;
    x ^= x >> 29;
    const float u = (static_cast<float>(x >> 40) + 0.5F) / 16777216.0F;
    const float v = static_cast<float>(x & 0xFFFFFFU) / 16777216.0F;
    values[i] = Format<T>::from_float(deviation * sqrtf(-2.0F * logf(u)) * cospif(2.0F * v));
  }
}

}  // namespace sift::cuda
