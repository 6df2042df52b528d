#pragma once

#include <cstdint>
#include <span>

#include "sift/kernels/cpu/attend_decode_kernels.h"

namespace sift::cpu {

/// Two neighbours of a sorted list.
struct OrderStatistics {
  float lower = 0;  ///< number `rank`, from 0
  float upper = 0;  ///< number rank + 1, or the same where there is none
};

/// Order statistics `rank` and `rank` + 1 of values[0, count), exactly. Both spans hold at least
/// count + kBlockKeys floats and are written over.
/// REQUIRES: 0 ≤ rank < count, and no NaN among the values.
OrderStatistics order_statistics(const DecodeKernels& kernels, std::span<float> values,
                                 std::int64_t count, std::int64_t rank, std::span<float> scratch);

}  // namespace sift::cpu
