#include "sift/attention/automatic_warmup.h"

#include <algorithm>
#include <cmath>

namespace sift {

std::int64_t AutomaticWarmup::next_check(std::int64_t row) {
  return std::max(kFewestRows, (row + kBlockRows - 1) / kBlockRows * kBlockRows);
}

bool AutomaticWarmup::ends_with(std::int64_t row) const {
  if (row != next_check(row)) return false;
  const auto agreeing = std::ranges::count_if(
      heads_, [](const Head& head) { return std::abs(head.excess) <= kLargestBias * kBlockRows; });
  return row >= kMostRows || 2 * agreeing >= std::ssize(heads_);
}

}  // namespace sift
