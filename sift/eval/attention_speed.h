#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sift/attention/policy.h"
#include "sift/attention/statistics.h"
#include "sift/core/dtype.h"
#include "sift/engine/engine.h"

namespace sift {

/// One step of decode attention of one layer, without a model.
struct AttentionSpeedOptions {
  BackendKind backend = BackendKind::cpu;
  Policy policy;
  std::int64_t batch = 1;       ///< sequences
  std::int64_t context = 8192;  ///< keys of each, its own included
  int heads = 9;
  int kv_heads = 3;
  int head_dim = 64;
  DType type = DType::f16;
  int threads = 1;
  std::int64_t repeat = 50;        ///< steps of either kind
  std::int64_t rotated_bytes = 0;  ///< that the caches of either kind come to at least
};

/// Time of one term of the paper's cost analysis.
struct TermSpeed {
  std::string name;
  double seconds = 0;  ///< median
};

struct AttentionSpeed {
  double seconds = 0;        ///< median of the policy's steps
  double dense_seconds = 0;  ///< of dense steps between them
  double least_seconds = 0;
  double most_seconds = 0;
  double bytes = 0;         ///< of K, shadows and V that a step had to read
  double dense_bytes = 0;   ///< the same of a dense step
  std::int64_t copies = 0;  ///< of the caches that steps go through in turn
  AttentionTotals attention;
  std::vector<TermSpeed> terms;  ///< cpu only
};

/// Called with the steps run so far and those to run; return false to stop there.
using AttentionSpeedCallback = std::function<bool(std::int64_t done, std::int64_t total)>;

/// Bytes of the last-level cache of this machine. Throws Error (input_output) where the system
/// tells none.
std::int64_t last_level_cache_bytes();

/// Times steps of the policy and dense ones in the order dense, policy, policy, dense, each on the
/// next of several copies of the caches, so that every step finds its cache cold. Keys, values and
/// queries are normal random numbers, heads independent; a policy that sifts calibrates on two
/// steps at this context, whatever it says, so that its realised sparsity is near τ. Throws Error
/// (invalid_argument) for options that cannot be, and what the policy's state throws. Nothing is
/// returned but `copies` = 0 when the callback ended it.
AttentionSpeed attention_speed(const AttentionSpeedOptions& options,
                               const AttentionSpeedCallback& callback = {});

}  // namespace sift
