#include "sift/kernels/cuda/record_quantiles.h"

#include <algorithm>

#include "sift/kernels/cuda/method.cuh"
#include "sift/kernels/cuda/order_statistics.cuh"
#include "sift/sifting/quantile.h"

namespace sift::cuda {
namespace {

// Bins of a head, and entries of its list. Fewer for large groups, so that all heads fit into the
// shared memory of any device.
constexpr int kManyWords = 2048;
constexpr int kFewWords = 1024;
constexpr int kMostGroupOfManyWords = 8;

constexpr int kMostBlocksPerGroup = 8;  // the largest cluster that every device has

__device__ int padded_chunks(int keys) { return (keys + kScoreRowPadding - 1) / kScoreRowPadding; }

// The first row of scores of a request's KV head. Every warp works it out for itself.
__device__ std::int64_t first_score_row(const MethodStep& method, int request, int kv_head) {
  unsigned chunks = 0;
  for (int b = static_cast<int>(threadIdx.x) % kWarpThreads; b < request; b += kWarpThreads) {
    chunks += padded_chunks(method.visible[b]);
  }
  const std::int64_t before = __reduce_add_sync(kAllLanes, chunks);
  const std::int64_t own = padded_chunks(method.visible[request]);
  return (before * method.kv_heads + own * kv_head) * kScoreRowPadding;
}

/// The rows of one group that one block of its team reads.
__device__ ScoreRows team_rows(const BlockTeam& team, const float* scores, int keys, int group) {
  // A multiple of four rows keeps every block's first row aligned.
  const int each = ((keys + team.size() - 1) / team.size() + 3) / 4 * 4;
  const int begin = min(team.rank() * each, keys);
  return {scores + std::int64_t{begin} * group, min(each, keys - begin), group};
}

template <int kWords>
__global__ void __launch_bounds__(kSelectThreads, 2)
    record_quantiles_kernel(const __grid_constant__ RecordQuantilesArguments arguments) {
  extern __shared__ uint4 words[];  // [group, kWords] of 32 bits
  __shared__ SelectionShared shared;
  const MethodStep& method = arguments.method;
  const BlockTeam team;
  const int unit = static_cast<int>(blockIdx.x) / team.size();
  const int request = unit / method.kv_heads;
  const int kv_head = unit % method.kv_heads;

  wait_for_previous_kernel();
  // All inputs are read below this line.
  if (request_mode(method, request) != RowMode::record) return;
  const int group = method.heads / method.kv_heads;
  const int first_head = kv_head * group;
  const int keys = method.visible[request];
  const float* scores = arguments.scores + first_score_row(method, request, kv_head) * group;
  const float* log_sum_exp =
      arguments.log_sum_exp + std::int64_t{request} * method.heads + first_head;
  const QuantilePosition at = quantile_position(keys, request_options(method, request).tau);

  const ScoreRows rows = team_rows(team, scores, keys, group);
  OrderSelection<kWords> selection(team, shared, reinterpret_cast<std::uint32_t*>(words), rows,
                                   group);
  selection.run(log_sum_exp, static_cast<std::uint32_t>(at.lower));
  if (!selection.owns_head()) return;
  const OrderStatistics found = selection.own_statistics();
  if (threadIdx.x % kWarpThreads != 0) return;
  const int own = selection.own_head();
  double ln_theta = ln_interpolated_quantile(found.lower * kLn2, found.upper * kLn2, at.fraction,
                                             log_sum_exp[own] * kLn2);
  if (selection.own_refused()) ln_theta = HUGE_VAL;
  if (method.ln_thetas != nullptr) {
    method.ln_thetas[std::int64_t{request} * method.heads + first_head + own] = ln_theta;
  } else {
    record(method, request, first_head + own, ln_theta);
  }
}

int words_of(int group) { return group <= kMostGroupOfManyWords ? kManyWords : kFewWords; }

std::size_t shared_bytes(int group) {
  return sizeof(std::uint32_t) * static_cast<std::size_t>(group) * words_of(group);
}

auto* kernel_of(int group) {
  return words_of(group) == kManyWords ? record_quantiles_kernel<kManyWords>
                                       : record_quantiles_kernel<kFewWords>;
}

// As many blocks as the device runs side by side, a power of two for each group, as long as each
// has work: measured, more of them wait for each other longer than they save.
int choose_blocks(std::int64_t groups, const RecordQuantilesPlan& plan) {
  constexpr int kWorthwhileKeys = 1024;
  int blocks = 1;
  while (blocks < kMostBlocksPerGroup && groups * blocks * 2 <= plan.processors &&
         plan.longest > std::int64_t{blocks} * kWorthwhileKeys) {
    blocks *= 2;
  }
  return blocks;
}

}  // namespace

cudaError_t plan_record_quantiles(int batch, int heads, int kv_heads, std::int64_t longest,
                                  RecordQuantilesPlan& plan) {
  const int group = heads / kv_heads;
  int device = 0;
  int processors = 0;
  cudaFuncAttributes attributes{};
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (status == cudaSuccess) {
    status = cudaFuncSetAttribute(kernel_of(group), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes(group)));
  }
  if (status == cudaSuccess) status = cudaFuncGetAttributes(&attributes, kernel_of(group));
  if (status != cudaSuccess) return status;
  // What was compiled decides, not the device: code for sm_80 knows no clusters.
  const bool has_clusters = attributes.ptxVersion >= 90;
  plan.processors = has_clusters ? processors : 0;
  plan.longest = longest;
  plan.blocks_per_group = choose_blocks(std::int64_t{batch} * kv_heads, plan);
  return cudaSuccess;
}

cudaError_t launch_record_quantiles(const RecordQuantilesPlan& plan,
                                    const RecordQuantilesArguments& arguments,
                                    cudaStream_t stream) {
  const MethodStep& method = arguments.method;
  const int group = method.heads / method.kv_heads;
  const std::int64_t groups = std::int64_t{arguments.batch} * method.kv_heads;
  const auto cluster =
      static_cast<unsigned>(std::max(plan.blocks_per_group, choose_blocks(groups, plan)));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(arguments.batch * method.kv_heads) * cluster;
  config.blockDim = kSelectThreads;
  config.dynamicSmemBytes = shared_bytes(group);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = cluster > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel_of(group), arguments);
}

}  // namespace sift::cuda
