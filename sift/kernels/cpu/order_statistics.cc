#include "sift/kernels/cpu/order_statistics.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace sift::cpu {
namespace {

// Lists up to this length are partitioned directly.
constexpr std::int64_t kShort = 384;
constexpr std::int64_t kSamples = 128;
// The bracket reaches this many samples to both sides of the rank: twice the largest standard
// deviation of the rank that a sample of 128 estimates, so it seldom misses.
constexpr std::int64_t kReach = 12;

OrderStatistics partition(std::span<float> values, std::int64_t rank) {
  const auto middle = values.begin() + rank;
  std::nth_element(values.begin(), middle, values.end());
  if (middle + 1 == values.end()) return {*middle, *middle};
  return {*middle, *std::min_element(middle + 1, values.end())};
}

struct Bracket {
  float low = 0;
  float high = 0;
};

// Values between which the wanted ones lie with high probability, from evenly spaced samples.
Bracket bracket(std::span<const float> values, std::int64_t rank) {
  const auto count = static_cast<std::int64_t>(values.size());
  std::array<float, kSamples> samples;
  for (std::int64_t i = 0; i < kSamples; ++i) samples[i] = values[i * count / kSamples];
  std::sort(samples.begin(), samples.end());
  const std::int64_t middle = rank * kSamples / count;
  const float infinity = std::numeric_limits<float>::infinity();
  return {middle < kReach ? -infinity : samples[middle - kReach],
          middle + kReach >= kSamples ? infinity : samples[middle + kReach]};
}

}  // namespace

OrderStatistics order_statistics(const DecodeKernels& kernels, std::span<float> values,
                                 std::int64_t count, std::int64_t rank, std::span<float> scratch) {
  while (count > kShort) {
    const Bracket range = bracket(values.first(count), rank);
    const Collected found =
        kernels.collect(values.data(), count, range.low, range.high, scratch.data());
    const bool holds_both = found.below <= rank && rank + 1 < found.below + found.inside;
    // Ties, an unlucky sample or the last ranks: then the rest is partitioned as it is.
    if (!holds_both || found.inside > count / 2) break;
    rank -= found.below;
    count = found.inside;
    std::swap(values, scratch);
  }
  return partition(values.first(count), rank);
}

}  // namespace sift::cpu
