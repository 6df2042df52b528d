#pragma once

// Scores of keys, and of shadows of keys, for AVX-512. Like exp2_avx512.h for translation units
// that are compiled for AVX-512 only; no inline function of other headers is called.

#include <immintrin.h>

#include "sift/kernels/cpu/attend_decode_kernels.h"
#include "sift/kernels/cpu/attend_scores_avx512.h"

// Loops of constant length over arrays of vectors, which live in registers only when unrolled.
#ifdef __clang__
#define SIFT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SIFT_UNROLL _Pragma("GCC unroll 16")
#endif

namespace sift::cpu {
namespace {

constexpr int kQuad = 4;           // keys whose sums are folded together
constexpr int kHeadsTogether = 4;  // heads that share one load of a key or value
constexpr std::size_t kLineBytes = 64;

// How 16 values, number `vector` of a cache row or of a shadow of one, become floats.
struct LoadF32 {
  static __m512 load(const std::byte* row, int vector, int) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(row) + vector * kLanes);
  }
};

struct LoadF16 {
  static __m512 load(const std::byte* row, int vector, int) {
    const auto* half = reinterpret_cast<const __m256i*>(row) + vector;
    return _mm512_cvtph_ps(_mm256_loadu_si256(half));
  }
};

struct LoadBF16 {
  static __m512 load(const std::byte* row, int vector, int) {
    const auto* upper = reinterpret_cast<const __m256i*>(row) + vector;
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(upper));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
};

struct LoadQ8 {
  static __m512 load(const std::byte* row, int vector, int) {
    constexpr int kBlockBytes = 34;  // a half, then 32 signed bytes
    const std::byte* block = row + vector / 2 * kBlockBytes;
    std::uint16_t scale = 0;
    __builtin_memcpy(&scale, block, sizeof(scale));
    const __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(scale)));
    const auto* bytes = reinterpret_cast<const __m128i*>(block + 2 + vector % 2 * kLanes);
    return _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes))));
  }
};

// The 16 values that a block of a 4-bit shadow can have, by code.
[[gnu::always_inline]] inline __m512 shadow_values(const std::byte* scale_and_zero) {
  int pair = 0;
  __builtin_memcpy(&pair, scale_and_zero, sizeof(pair));
  const __m128 both = _mm_cvtph_ps(_mm_cvtsi32_si128(pair));
  const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_fmadd_ps(_mm512_broadcastss_ps(both), codes,
                         _mm512_broadcastss_ps(_mm_movehdup_ps(both)));
}

// Vector 2g holds the even ones of values 32g … 32g + 31, which are the low halves of 16 bytes,
// vector 2g + 1 the odd ones. Permutations look at the lowest 4 bits of an index.
template <int kBlock>
struct LoadShadow4 {
  static __m512 load(const std::byte* row, int vector, int head_dim) {
    const int first_byte = vector / 2 * kLanes;
    const __m512i bytes =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + first_byte)));
    const __m512i codes = vector % 2 == 0 ? bytes : _mm512_srli_epi32(bytes, 4);
    const std::byte* scales = row + head_dim / 2 + 2 * first_byte / kBlock * 4;
    const __m512 values = shadow_values(scales);
    if constexpr (kBlock == 16) {  // bytes 8 to 15 belong to the next block
      return _mm512_mask_permutexvar_ps(_mm512_permutexvar_ps(codes, values), 0xff00, codes,
                                        shadow_values(scales + 4));
    } else {
      return _mm512_permutexvar_ps(codes, values);
    }
  }
};

// e4m3 has the form of a half with 7 bits less, and an exponent that is 8 less.
struct LoadShadowFp8 {
  static __m512 load(const std::byte* row, int vector, int head_dim) {
    const auto* bytes = reinterpret_cast<const __m128i*>(row) + vector;
    const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(bytes));
    const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
    const __m256i magnitude = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x7f)), 7);
    float scale = 0;
    __builtin_memcpy(&scale, row + head_dim, sizeof(scale));
    return _mm512_mul_ps(_mm512_set1_ps(scale * 0x1p8F),
                         _mm512_cvtph_ps(_mm256_or_si256(sign, magnitude)));
  }
};

// Into the second-level cache: requests that fill the first one wait for its few miss buffers, and
// these then bound how fast memory is read. Always inlined: GCC sees no effect in a function that
// only prefetches, and drops calls of it.
[[gnu::always_inline]] inline void prefetch(const std::byte* begin, std::size_t bytes) {
  for (std::size_t offset = 0; offset < bytes; offset += kLineBytes) {
    _mm_prefetch(reinterpret_cast<const char*>(begin + offset), _MM_HINT_T1);
  }
}

// How many units of `bytes` to prefetch ahead: enough to cover the latency of memory and the pause
// between two chunks, and no more: what is farther away was measured to come no sooner.
inline int prefetch_distance(std::size_t bytes, int most) {
  constexpr std::size_t kBytesAhead = 8192;
  const auto units = static_cast<int>(kBytesAhead / bytes);
  return units < 1 ? 1 : lesser(units, most);
}

// Rows of keys that follow each other.
struct ContiguousRows {
  const std::byte* first;
  std::size_t row_bytes;

  [[gnu::always_inline]] const std::byte* operator[](int i) const { return first + i * row_bytes; }
  [[gnu::always_inline]] ContiguousRows from(int i) const { return {(*this)[i], row_bytes}; }
  [[gnu::always_inline]] void prefetch_quad() const { prefetch(first, kQuad * row_bytes); }
};

// Rows of keys anywhere.
struct GatheredRows {
  const std::byte* const* rows;
  std::size_t row_bytes;

  [[gnu::always_inline]] const std::byte* operator[](int i) const { return rows[i]; }
  [[gnu::always_inline]] GatheredRows from(int i) const { return {rows + i, row_bytes}; }
  [[gnu::always_inline]] void prefetch_quad() const {
    for (int i = 0; i < kQuad; ++i) prefetch(rows[i], row_bytes);
  }
};

// Adds neighbours of four vectors: each 128-bit lane l gets [Σ a.l, Σ b.l, Σ c.l, Σ d.l].
inline __m512 fold_quad(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}

// Adds the 128-bit lanes of four folded quads: lane l of the result belongs to quad l.
inline __m512 fold_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab =
      _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  const __m512 cd =
      _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

// Adds the products of vector number `vector` of four keys and kHeads queries.
template <class Load, int kHeads, class Rows>
[[gnu::always_inline]] inline void add_products(const float* query, int head_dim, const Rows& keys,
                                                int vector, __m512 (&sums)[kHeads][kQuad]) {
  __m512 key[kQuad];
  SIFT_UNROLL
  for (int i = 0; i < kQuad; ++i) key[i] = Load::load(keys[i], vector, head_dim);
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    const __m512 q = _mm512_loadu_ps(query + head * head_dim + vector * kLanes);
    SIFT_UNROLL
    for (int i = 0; i < kQuad; ++i) sums[head][i] = _mm512_fmadd_ps(q, key[i], sums[head][i]);
  }
}

// Scores of four keys under kHeads heads, folded: out[head]. `kDim` is the head dimension where it
// is known when compiling, or 0.
template <class Load, int kDim, int kHeads, class Rows>
[[gnu::always_inline]] inline void score_quad(const float* query, int head_dim, const Rows& keys,
                                              __m512* out) {
  __m512 sums[kHeads][kQuad];
  SIFT_UNROLL
  for (auto& head : sums) {
    SIFT_UNROLL
    for (__m512& sum : head) sum = _mm512_setzero_ps();
  }
  if constexpr (kDim > 0) {
    SIFT_UNROLL
    for (int vector = 0; vector < kDim / kLanes; ++vector) {
      add_products<Load, kHeads>(query, kDim, keys, vector, sums);
    }
  } else {
    for (int vector = 0; vector < head_dim / kLanes; ++vector) {
      add_products<Load, kHeads>(query, head_dim, keys, vector, sums);
    }
  }
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    out[head] = fold_quad(sums[head][0], sums[head][1], sums[head][2], sums[head][3]);
  }
}

// Scores of kHeads heads of a group, from `first_head` on, with one block of 16 keys. Prefetches
// the block `ahead` on the way, for the first heads only.
template <class Load, int kDim, int kHeads, class Rows>
void score_heads(const GroupLayout& layout, int first_head, const float* query, const Rows& keys,
                 const Rows& ahead, float* scores) {
  query += first_head * layout.head_dim;
  scores += first_head * kScoreStride;
  __m512 folded[kQuad][kHeads];
  SIFT_UNROLL
  for (int quad = 0; quad < kQuad; ++quad) {
    if (first_head == 0) ahead.from(quad * kQuad).prefetch_quad();
    score_quad<Load, kDim, kHeads>(query, layout.head_dim, keys.from(quad * kQuad), folded[quad]);
  }
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    _mm512_storeu_ps(scores + head * kScoreStride, fold_lanes(folded[0][head], folded[1][head],
                                                              folded[2][head], folded[3][head]));
  }
}

template <class Load, int kDim, class Rows>
void score_group(const GroupLayout& layout, const float* query, const Rows& keys, const Rows& ahead,
                 float* scores) {
  constexpr decltype(&score_heads<Load, kDim, 1, Rows>) kByHeads[] = {
      score_heads<Load, kDim, 1, Rows>, score_heads<Load, kDim, 2, Rows>,
      score_heads<Load, kDim, 3, Rows>, score_heads<Load, kDim, 4, Rows>};
  for (int head = 0; head < layout.group; head += kHeadsTogether) {
    const int together = lesser(layout.group - head, kHeadsTogether);
    kByHeads[together - 1](layout, head, query, keys, ahead, scores);
  }
}

// What lies behind the last key of the last block weighs nothing.
inline void pad_scores(const GroupLayout& layout, int keys, float* scores) {
  for (int head = 0; head < layout.group; ++head) {
    for (int i = keys; i % kBlockKeys != 0; ++i) scores[head * kScoreStride + i] = -kInfinity;
  }
}

template <class Load>
void score(const GroupLayout& layout, const float* query, const std::byte* const* blocks, int keys,
           float* scores) {
  using Rows = ContiguousRows;
  const auto group =
      layout.head_dim == 64 ? score_group<Load, 64, Rows> : score_group<Load, 0, Rows>;
  const int ahead = prefetch_distance(layout.row_bytes * kBlockKeys, kBlocksAhead);
  for (int block = 0; block * kBlockKeys < keys; ++block) {
    group(layout, query, {blocks[block], layout.row_bytes},
          {blocks[block + ahead], layout.row_bytes}, scores + block * kBlockKeys);
  }
  pad_scores(layout, keys, scores);
}

template <class Load>
void score_rows(const GroupLayout& layout, const float* query, const std::byte* const* rows,
                int count, float* scores) {
  using Rows = GatheredRows;
  const auto group =
      layout.head_dim == 64 ? score_group<Load, 64, Rows> : score_group<Load, 0, Rows>;
  constexpr int kAhead = kRowsAhead - kBlockKeys;
  for (int first = 0; first < count; first += kBlockKeys) {
    group(layout, query, {rows + first, layout.row_bytes},
          {rows + first + kAhead, layout.row_bytes}, scores + first);
  }
  pad_scores(layout, count, scores);
}

}  // namespace
}  // namespace sift::cpu
