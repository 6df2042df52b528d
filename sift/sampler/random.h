#pragma once

#include <array>
#include <cstdint>

namespace sift {

/// Counter-based random numbers (Philox 4x32 with 10 rounds: Salmon et al., "Parallel random
/// numbers: as easy as 1, 2, 3", SC 2011): the same (seed, stream, counter) gives the same number
/// whatever else runs.
std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream,
                                    std::uint64_t counter);

/// A double in [0, 1) with 53 random bits.
double uniform_random(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter);

}  // namespace sift
