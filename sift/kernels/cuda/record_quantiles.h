#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "sift/kernels/cuda/method_state.h"

namespace sift::cuda {

/// The scores of a KV head's group begin at rows whose number is a multiple of this.
inline constexpr int kScoreRowPadding = 256;

/// What recording the quantiles of one step of one layer reads. Pointers are to device memory.
struct RecordQuantilesArguments {
  int batch = 0;
  MethodStep method;  ///< modes, lengths and τ are read; `ln_thetas` or states written
  /// Scaled scores, base 2, as attention leaves them: per request and KV head a matrix
  /// [visible keys, heads of the group], each padded to kScoreRowPadding rows, one after another.
  /// 16-byte aligned.
  const float* scores = nullptr;
  const float* log_sum_exp = nullptr;  ///< [batch, heads], base 2
};

/// How a launch is cut up; it does not change results.
struct RecordQuantilesPlan {
  int blocks_per_group = 1;  ///< blocks that share the scores of one KV head's group, at least
  std::int64_t longest = 0;  ///< visible keys of a request, at most
  int processors = 0;        ///< that launches of fewer requests may fill with more blocks
};

/// Chooses a plan for batches of up to `batch` requests of up to `longest` visible keys, and
/// prepares the kernels on the current device. Not to be called during capture.
cudaError_t plan_record_quantiles(int batch, int heads, int kv_heads, std::int64_t longest,
                                  RecordQuantilesPlan& plan);

/// For each request in RowMode::record and each query head, gives the τ-quantile of the softmax to
/// the head's fit, or its logarithm to `method.ln_thetas`, exactly. NaN and +∞ among the scores
/// make a record of +∞, which the fit refuses. Requests in other modes cost an early exit.
/// Asynchronous; may be captured. REQUIRES: at most 16 heads a group, at most 512 requests, 1 to
/// 262,144 visible keys.
cudaError_t launch_record_quantiles(const RecordQuantilesPlan& plan,
                                    const RecordQuantilesArguments& arguments, cudaStream_t stream);

}  // namespace sift::cuda
