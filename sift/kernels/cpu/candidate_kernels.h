#pragma once

#include <cstdint>

namespace sift::cpu {

// The inner loops of many-row attention over estimated scores, in the best instruction set of this
// processor. Scores are base-2 logarithms.

/// One query head of one row whose keys are parted into candidates and the rest.
struct CandidateTask {
  float* estimates = nullptr;  ///< [visible + 15] in: estimated scores; out: −Inf for candidates
  const float* exact = nullptr;  ///< [visible + 15] exact scores
  float* candidates = nullptr;   ///< [visible + 15] out: exact scores of candidates, else −Inf
  std::int32_t visible = 0;
  std::int32_t forced_before = 0;  ///< keys before it are candidates whatever their estimate
  std::int32_t forced_from = 0;    ///< and so are keys from this one on
  float limit = 0;                 ///< a key is a candidate when its estimate is greater
  std::int32_t only = -1;          ///< a key that is one though no estimate is greater, or −1
  float exact_limit = 0;           ///< exact sifting keeps keys whose score is greater,
  std::int32_t exact_only = -1;    ///< and this one, or −1
};

/// Returns how many keys exact sifting keeps that are no candidates.
std::int64_t part_candidates(const CandidateTask& task);

/// Keys of [0, visible) at which any of the rows [group][visible + 15] exceeds −Inf.
std::int64_t count_any(const float* const* rows, int group, std::int32_t visible);

}  // namespace sift::cpu
