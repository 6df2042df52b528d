#pragma once

#include <cstddef>
#include <cstdint>

namespace sift::cpu {

// The inner loops of many-row attention, in the best instruction set of this processor. Every row
// is computed by the same operations in the same order whatever rows stand beside it. Scores are
// base-2 logarithms: queries come scaled by log2(e) / √head_dim.

/// Rows that a product takes together: row counts are multiples of it.
inline constexpr int kRowsTogether = 4;
/// Columns of products come in multiples of it.
inline constexpr int kColumnMultiple = 32;

/// A block [rows, columns] of floats inside something larger.
struct Block {
  float* data = nullptr;
  std::size_t stride = 0;  ///< floats from row to row
};
struct ConstBlock {
  const float* data = nullptr;
  std::size_t stride = 0;
};

/// c[rows, columns] (+)= a[rows, depth] · b[depth, columns], summed in order of depth.
/// REQUIRES: rows % kRowsTogether == 0, columns % kColumnMultiple == 0; b and c are aligned to 64
/// bytes in every row.
void multiply(int rows, int depth, int columns, ConstBlock a, ConstBlock b, Block c,
              bool accumulate);

struct ScoreScan {
  float maximum = 0;
  bool invalid = false;  ///< a NaN or +Inf is among them
};
ScoreScan scan_scores(const float* scores, std::int64_t count);

/// Σ 2^(scores[i] − maximum).
double sum_exp2(const float* scores, std::int64_t count, float maximum);
/// The same, and every score is replaced by its power.
double replace_exp2(float* scores, std::int64_t count, float maximum);

/// What one query head of a row keeps.
struct HeadSelection {
  float* scores = nullptr;  ///< [visible]; replaced by 2^(score − maximum), or 0 where not kept
  float maximum = 0;
  double sum = 0;          ///< Σ 2^(score − maximum) over all keys, for the caller
  float limit = 0;         ///< a key passes when its score is greater
  bool empty = false;      ///< no key passes and none is forced, for the caller
  std::int32_t only = -1;  ///< a key kept though nothing passes, or −1

  std::int64_t kept = 0;                    ///< out: keys kept
  std::int64_t kept_eligible = 0;           ///< out: of them not forced
  double kept_sum = 0;                      ///< out: Σ 2^(score − maximum) over kept keys
  alignas(64) float partial_sums[16] = {};  ///< scratch of the kernel
};

struct UnionCount {
  std::int64_t rows = 0;      ///< keys that any head keeps
  std::int64_t eligible = 0;  ///< of them not forced
};

/// Selects the keys of one row for `group` heads. Keys before `forced_before` and from
/// `forced_from` on are kept whatever their score.
UnionCount select_keys(HeadSelection* heads, int group, std::int32_t visible,
                       std::int32_t forced_before, std::int32_t forced_from);

/// out[i] = factor · sums[i] + addend_factor · addend[i]; addend may be null.
void combine(const float* sums, float factor, const float* addend, float addend_factor, int count,
             float* out);

}  // namespace sift::cpu
