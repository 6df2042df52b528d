#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/core/dtype.h"
#include "sift/core/key_shadow.h"

namespace sift::cpu {

// The inner loops of decode attention, as a table of functions per instruction set. All work on one
// chunk of keys of one KV head and serve the query heads of its group together. Scores are base-2
// logarithms: the query comes scaled by log2(e) / √head_dim.

/// Keys of one chunk: the unit of work and of summation. Chunks begin at absolute multiples of it,
/// so results depend on the number of keys alone, not on the threads.
inline constexpr int kChunkKeys = 512;
/// Keys that are scored together. Scores of a chunk are padded to whole blocks with −Inf.
inline constexpr int kBlockKeys = 16;
/// Floats between the scores (or weights) of two heads of a chunk; a block more than the chunk,
/// since compaction stores whole vectors.
inline constexpr int kScoreStride = kChunkKeys + kBlockKeys;
/// Entries behind a list of blocks or rows that name what will be read next, for prefetching: a
/// page.
inline constexpr int kBlocksAhead = 4;
inline constexpr int kRowsAhead = 64;

/// What the heads that share a KV head have in common.
struct GroupLayout {
  int group = 0;     ///< query heads
  int head_dim = 0;  ///< a multiple of 16
  std::size_t row_bytes = 0;
};

/// Which keys of one chunk survive.
struct SelectTask {
  const float* scores = nullptr;  ///< [group, kScoreStride], padded
  int group = 0;
  int keys = 0;                       ///< keys of the chunk
  const float* thresholds = nullptr;  ///< [group]: a key passes when its score is greater
  const int* only_keys = nullptr;     ///< [group]: a key kept though nothing passes, or −1
  int forced_before = 0;              ///< keys below this index are kept whatever their score
  int forced_from = kChunkKeys;       ///< and keys from this index on
};

/// What of a chunk one head keeps.
struct KeptCounts {
  int kept = 0;
  int kept_eligible = 0;  ///< passed by score and not forced
};

struct Selected {
  std::uint16_t* indices = nullptr;  ///< [kScoreStride] keys of the union, ascending
  float* scores = nullptr;           ///< [group, kScoreStride] their scores, −Inf where a head
                                     ///< does not keep the key; padded to whole blocks
  KeptCounts* counts = nullptr;      ///< [group]
  std::uint16_t* masks = nullptr;    ///< [group] scratch
  int rows = 0;                      ///< keys of the union
  int rows_eligible = 0;             ///< of them not forced
};

/// What lies within [low, high] of a list of scores.
struct Collected {
  std::int64_t below = 0;   ///< values less than low
  std::int64_t inside = 0;  ///< values copied
};

/// Formats of key shadows that decoding takes.
inline constexpr int kShadowFormats = 4;

struct DecodeKernels {
  /// scores[head, i] = query[head] · key i. `blocks` points to each block of 16 keys and to
  /// kBlocksAhead more that are only prefetched. Reads whole blocks, of which `keys` are valid.
  using Score = void (*)(const GroupLayout& layout, const float* query,
                         const std::byte* const* blocks, int keys, float* scores);
  /// The same for `count` rows anywhere. `rows` points to each row, to rows that may be read up to
  /// whole blocks of 16, and to as many more as make kRowsAhead behind the last row, which are only
  /// prefetched.
  using ScoreRows = void (*)(const GroupLayout& layout, const float* query,
                             const std::byte* const* rows, int count, float* scores);
  /// sums[head] += Σ weights[head, i] · row i. `rows` points to each row and to kRowsAhead more
  /// that are only prefetched.
  using Accumulate = void (*)(const GroupLayout& layout, const float* weights,
                              const std::byte* const* rows, int count, float* sums);

  const char* name = "";
  Score score[4] = {};           ///< by cache_type_index
  ScoreRows score_rows[4] = {};  ///< by cache_type_index
  /// Scores from shadows (sift/core/key_shadow.h), by shadow_format_index. Values of the
  /// query come in the order of codes, but for 4 bits of each 32 the 16 even ones first, then the
  /// 16 odd ones, as codes lie in the low and high halves of bytes. `layout.row_bytes` is that of a
  /// shadow.
  Score score_shadow[kShadowFormats] = {};
  Accumulate accumulate[4] = {};  ///< by cache_type_index
  /// Greatest of `count` values, whole blocks of them.
  float (*maximum)(const float* values, int count) = nullptr;
  /// Σ 2^(values[i] − reference); NaN if any value is NaN or +Inf.
  float (*sum_exp2)(const float* values, int count, float reference) = nullptr;
  /// The same, and each value is replaced by its power.
  float (*replace_exp2)(float* values, int count, float reference) = nullptr;
  void (*select)(const SelectTask& task, Selected& selected) = nullptr;
  /// sums[i] += scale · addend[i].
  void (*add_scaled)(float* sums, const float* addend, float scale, int count) = nullptr;
  /// Copies the values within [low, high] to `inside`, which holds count + kBlockKeys values.
  Collected (*collect)(const float* values, std::int64_t count, float low, float high,
                       float* inside) = nullptr;
};

/// Place of a cache type in the tables above. REQUIRES: f32, f16, bf16 or q8_0.
inline int cache_type_index(DType type) {
  switch (type) {
    case DType::f32:
      return 0;
    case DType::f16:
      return 1;
    case DType::bf16:
      return 2;
    default:
      return 3;
  }
}

/// Place of a shadow's format in the table above. REQUIRES: 4 bits or fp8.
inline int shadow_format_index(const KeyShadowFormat& format) {
  if (format.code == ShadowCode::fp8) return 3;
  return format.block == 16 ? 0 : format.block == 32 ? 1 : 2;
}

/// Keys, a multiple of kBlockKeys, that `keys` keys are padded to.
inline int padded_keys(int keys) { return (keys + kBlockKeys - 1) / kBlockKeys * kBlockKeys; }

/// The table for AVX-512 whatever the processor, nullptr where the compiler's target has none.
const DecodeKernels* compiled_avx512_decode_kernels();
/// For processors with AVX-512, nullptr on others.
const DecodeKernels* avx512_decode_kernels();
/// For the best instruction set that Highway knows of this processor.
const DecodeKernels& portable_decode_kernels();
/// The faster of the two here.
const DecodeKernels& decode_kernels();

}  // namespace sift::cpu
