#include <algorithm>

#include "sift/kernels/cuda/argument_checks.h"
#include "sift/kernels/cuda/decode_workspace.h"
#include "sift/kernels/cuda/key_shadow.cuh"
#include "sift/kernels/cuda/shadow_checks.h"

namespace sift::cuda {
namespace {

constexpr int kWriteThreads = 128;
constexpr std::int64_t kMostBlocksPerRequest = 1 << 16;

constexpr ArgumentChecks kChecks("shadows of keys");

/// Lanes that share a key: the next power of two that is not less than its units.
int lanes_per_key(int head_dim) { return head_dim == 96 ? 16 : head_dim / kUnitCodes; }

/// The values that unit `unit` of a key's codes stands for, zeros behind the last one.
template <class T>
__device__ void load_values(const T* key, int head_dim, ShadowOrder order, int unit,
                            float (&values)[kUnitCodes]) {
  const int first = unit * kUnitCodes;
#pragma unroll
  for (int i = 0; i < kUnitCodes; ++i) {
    values[i] = first < head_dim
                    ? Format<T>::to_float(key[shadowed_value(order, head_dim, first + i)])
                    : 0.0F;
  }
}

// Keys of a request are shared among the lanes of gridDim.x blocks, KV heads of one key side by
// side; a row of blocks for each request.
template <class T>
__global__ void __launch_bounds__(kWriteThreads)
    write_key_shadows_kernel(const __grid_constant__ KeyShadowArguments a, int lanes_of_key) {
  const int request = static_cast<int>(blockIdx.y);
  const RowFinder finder(a.cache, request);
  const KeyLanes lanes(lanes_of_key, static_cast<int>(threadIdx.x));
  const int begin = a.begin[request];
  const std::int64_t rows = std::int64_t{a.end[request] - begin} * a.kv_heads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWriteThreads / lanes_of_key;
  std::int64_t row = (std::int64_t{blockIdx.x} * kWriteThreads + threadIdx.x) / lanes_of_key;
  for (; row < rows; row += stride) {
    const int key = begin + static_cast<int>(row / a.kv_heads);
    const int kv_head = static_cast<int>(row % a.kv_heads);
    const std::int64_t page = finder.page(key);
    const auto* values_of_key = reinterpret_cast<const T*>(
        static_cast<const char*>(a.cache.keys) + page * a.cache.page_stride + finder.in_page(key) +
        kv_head * a.cache.head_stride);
    float values[kUnitCodes];
    load_values(values_of_key, a.head_dim, a.shadows.format.order, lanes.unit, values);
    const int slot = finder.slot(key);
    write_shadow(a.shadows.format, a.head_dim, values, lanes,
                 shadow_tile(a.shadows, a.head_dim, page, kv_head, slot), slot % kShadowTileKeys);
  }
}

bool aligned(std::int64_t bytes) { return bytes % 16 == 0; }

void check_cache(const CacheAddress& cache) {
  kChecks.present(cache.keys, "the key cache");
  kChecks.require(cache.page_shift >= 4 && cache.page_shift <= 31, "log2 of the keys of a page",
                  cache.page_shift, "4 to 31");
  for (const std::int64_t stride : {cache.page_stride, cache.slot_stride, cache.head_stride}) {
    kChecks.require(aligned(stride), "a stride of the cache", stride, "a multiple of 16");
  }
}

void check(const KeyShadowArguments& a) {
  kChecks.require(a.batch >= 1 && a.batch <= kMaximumBatch, "the batch", a.batch,
                  "1 to 512 requests");
  kChecks.require(a.kv_heads >= 1, "the number of KV heads", a.kv_heads, "at least 1");
  kChecks.require(a.head_dim == 64 || a.head_dim == 96 || a.head_dim == 128 || a.head_dim == 256,
                  "the head dimension", a.head_dim, "64, 96, 128 or 256");
  if (a.type != DType::f16 && a.type != DType::bf16) {
    kChecks.refuse("the cache has a type that is not served, expected f16 or bf16");
  }
  check_cache(a.cache);
  check_shadows(kChecks, a.shadows, a.head_dim);
  kChecks.present(a.begin, "the array of first keys");
  kChecks.present(a.end, "the array of ends");
  kChecks.require(a.most >= 1, "the number of keys", a.most, "at least 1");
}

}  // namespace

void write_key_shadows(const KeyShadowArguments& arguments, cudaStream_t stream) {
  check(arguments);
  const int lanes = lanes_per_key(arguments.head_dim);
  const std::int64_t threads = std::int64_t{arguments.most} * arguments.kv_heads * lanes;
  const std::int64_t blocks = (threads + kWriteThreads - 1) / kWriteThreads;
  cudaLaunchConfig_t config{};
  config.gridDim = {static_cast<unsigned>(std::min(blocks, kMostBlocksPerRequest)),
                    static_cast<unsigned>(arguments.batch), 1};
  config.blockDim = kWriteThreads;
  config.stream = stream;
  auto* kernel = arguments.type == DType::f16 ? write_key_shadows_kernel<__half>
                                              : write_key_shadows_kernel<__nv_bfloat16>;
  kChecks.cuda(cudaLaunchKernelEx(&config, kernel, arguments, lanes), "making shadows of keys");
}

}  // namespace sift::cuda
