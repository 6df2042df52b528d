// Decode attention for AVX-512. Everything but the table's getter has internal linkage, and no
// inline function of other headers is called: its copy made here could serve processors that lack
// AVX-512.

#include "sift/kernels/cpu/attend_decode_kernels.h"

#ifdef __AVX512F__
#include "sift/kernels/cpu/attend_scores_avx512.h"

// Loops of constant length over arrays of vectors, which live in registers only when unrolled.
#ifdef __clang__
#define SIFT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SIFT_UNROLL _Pragma("GCC unroll 16")
#endif

namespace sift::cpu {
namespace {

constexpr int kQuad = 4;             // keys whose sums are folded together
constexpr int kHeadsTogether = 4;    // heads that share one load of a key or value
constexpr int kVectorsTogether = 4;  // vectors of a value row whose sums stay in registers
constexpr int kRowsTogether = 16;    // rows that are met again for other heads or vectors
constexpr std::size_t kLineBytes = 64;

// How 16 consecutive values, number `vector` of a cache row, become floats.
struct LoadF32 {
  static __m512 load(const std::byte* row, int vector) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(row) + vector * kLanes);
  }
};

struct LoadF16 {
  static __m512 load(const std::byte* row, int vector) {
    const auto* half = reinterpret_cast<const __m256i*>(row) + vector;
    return _mm512_cvtph_ps(_mm256_loadu_si256(half));
  }
};

struct LoadBF16 {
  static __m512 load(const std::byte* row, int vector) {
    const auto* upper = reinterpret_cast<const __m256i*>(row) + vector;
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(upper));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
};

struct LoadQ8 {
  static __m512 load(const std::byte* row, int vector) {
    constexpr int kBlockBytes = 34;  // a half, then 32 signed bytes
    const std::byte* block = row + vector / 2 * kBlockBytes;
    std::uint16_t scale = 0;
    __builtin_memcpy(&scale, block, sizeof(scale));
    const __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(scale)));
    const auto* bytes = reinterpret_cast<const __m128i*>(block + 2 + vector % 2 * kLanes);
    return _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes))));
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
template <class Load, int kHeads>
[[gnu::always_inline]] inline void add_products(const float* query, int head_dim,
                                                const std::byte* keys, std::size_t row_bytes,
                                                int vector, __m512 (&sums)[kHeads][kQuad]) {
  __m512 key[kQuad];
  SIFT_UNROLL
  for (int i = 0; i < kQuad; ++i) key[i] = Load::load(keys + i * row_bytes, vector);
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    const __m512 q = _mm512_loadu_ps(query + head * head_dim + vector * kLanes);
    SIFT_UNROLL
    for (int i = 0; i < kQuad; ++i) sums[head][i] = _mm512_fmadd_ps(q, key[i], sums[head][i]);
  }
}

// Scores of four keys under kHeads heads, folded: out[head]. `kDim` is the head dimension where it
// is known when compiling, or 0.
template <class Load, int kDim, int kHeads>
[[gnu::always_inline]] inline void score_quad(const float* query, int head_dim,
                                              const std::byte* keys, std::size_t row_bytes,
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
      add_products<Load, kHeads>(query, kDim, keys, row_bytes, vector, sums);
    }
  } else {
    for (int vector = 0; vector < head_dim / kLanes; ++vector) {
      add_products<Load, kHeads>(query, head_dim, keys, row_bytes, vector, sums);
    }
  }
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    out[head] = fold_quad(sums[head][0], sums[head][1], sums[head][2], sums[head][3]);
  }
}

// Scores of one block of 16 keys under kHeads heads. Prefetches the block `ahead` on the way.
template <class Load, int kDim, int kHeads>
[[gnu::always_inline]] inline void score_block(const float* query, int head_dim,
                                               const std::byte* keys, std::size_t row_bytes,
                                               const std::byte* ahead, float* scores) {
  __m512 folded[kQuad][kHeads];
  SIFT_UNROLL
  for (int quad = 0; quad < kQuad; ++quad) {
    if (ahead != nullptr) prefetch(ahead + quad * kQuad * row_bytes, kQuad * row_bytes);
    score_quad<Load, kDim, kHeads>(query, head_dim, keys + quad * kQuad * row_bytes, row_bytes,
                                   folded[quad]);
  }
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    _mm512_storeu_ps(scores + head * kScoreStride, fold_lanes(folded[0][head], folded[1][head],
                                                              folded[2][head], folded[3][head]));
  }
}

template <class Load, int kDim, int kHeads>
void score_heads(const GroupLayout& layout, int first_head, const float* query,
                 const std::byte* keys, const std::byte* ahead, float* scores) {
  const int dim = layout.head_dim;
  score_block<Load, kDim, kHeads>(query + first_head * dim, dim, keys, layout.row_bytes, ahead,
                                  scores + first_head * kScoreStride);
}

template <class Load, int kDim>
void score_group(const GroupLayout& layout, const float* query, const std::byte* keys,
                 const std::byte* ahead, float* scores) {
  constexpr decltype(&score_heads<Load, kDim, 1>) kByHeads[] = {
      score_heads<Load, kDim, 1>, score_heads<Load, kDim, 2>, score_heads<Load, kDim, 3>,
      score_heads<Load, kDim, 4>};
  for (int head = 0; head < layout.group; head += kHeadsTogether) {
    const int together = lesser(layout.group - head, kHeadsTogether);
    kByHeads[together - 1](layout, head, query, keys, head == 0 ? ahead : nullptr, scores);
  }
}

template <class Load>
void score(const GroupLayout& layout, const float* query, const std::byte* const* blocks, int keys,
           float* scores) {
  const auto group = layout.head_dim == 64 ? score_group<Load, 64> : score_group<Load, 0>;
  const int block_count = (keys + kBlockKeys - 1) / kBlockKeys;
  const int ahead = prefetch_distance(layout.row_bytes * kBlockKeys, kBlocksAhead);
  for (int block = 0; block < block_count; ++block) {
    group(layout, query, blocks[block], blocks[block + ahead], scores + block * kBlockKeys);
  }
  for (int head = 0; head < layout.group; ++head) {
    for (int i = keys; i < block_count * kBlockKeys; ++i) {
      scores[head * kScoreStride + i] = -kInfinity;
    }
  }
}

// What one pass over some rows adds to: kHeads heads from `first_head`, kVectors vectors from
// `first_vector`.
struct Tile {
  int first_head = 0;
  int first_vector = 0;
  int first_row = 0;
  int row_end = 0;
  int rows_ahead = 0;
  bool prefetches = false;
};

template <class Load, int kHeads, int kVectors>
void accumulate_tile(const GroupLayout& layout, const Tile& tile, const float* weights,
                     const std::byte* const* rows, float* sums) {
  weights += tile.first_head * kScoreStride;
  sums += tile.first_head * layout.head_dim + tile.first_vector * kLanes;
  __m512 sum[kHeads][kVectors];
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    SIFT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sum[head][v] = _mm512_loadu_ps(sums + head * layout.head_dim + v * kLanes);
    }
  }
  for (int row = tile.first_row; row < tile.row_end; ++row) {
    if (tile.prefetches) prefetch(rows[row + tile.rows_ahead], layout.row_bytes);
    __m512 value[kVectors];
    SIFT_UNROLL
    for (int v = 0; v < kVectors; ++v) value[v] = Load::load(rows[row], tile.first_vector + v);
    SIFT_UNROLL
    for (int head = 0; head < kHeads; ++head) {
      const __m512 weight = _mm512_set1_ps(weights[head * kScoreStride + row]);
      SIFT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sum[head][v] = _mm512_fmadd_ps(weight, value[v], sum[head][v]);
      }
    }
  }
  SIFT_UNROLL
  for (int head = 0; head < kHeads; ++head) {
    SIFT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      _mm512_storeu_ps(sums + head * layout.head_dim + v * kLanes, sum[head][v]);
    }
  }
}

template <class Load, int kVectors>
void accumulate_heads(const GroupLayout& layout, Tile tile, const float* weights,
                      const std::byte* const* rows, float* sums) {
  constexpr decltype(&accumulate_tile<Load, 1, kVectors>) kByHeads[] = {
      accumulate_tile<Load, 1, kVectors>, accumulate_tile<Load, 2, kVectors>,
      accumulate_tile<Load, 3, kVectors>, accumulate_tile<Load, 4, kVectors>};
  for (tile.first_head = 0; tile.first_head < layout.group; tile.first_head += kHeadsTogether) {
    const int together = lesser(layout.group - tile.first_head, kHeadsTogether);
    tile.prefetches = tile.first_head == 0 && tile.first_vector == 0;
    kByHeads[together - 1](layout, tile, weights, rows, sums);
  }
}

template <class Load>
void accumulate(const GroupLayout& layout, const float* weights, const std::byte* const* rows,
                int count, float* sums) {
  const int vectors = layout.head_dim / kLanes;
  const bool one_tile = vectors == kVectorsTogether && layout.group <= kHeadsTogether;
  const int step = one_tile ? count : kRowsTogether;
  Tile tile;
  tile.rows_ahead = prefetch_distance(layout.row_bytes, kRowsAhead);
  for (; tile.first_row < count; tile.first_row += step) {
    tile.row_end = lesser(tile.first_row + step, count);
    tile.first_vector = 0;
    for (; tile.first_vector + kVectorsTogether <= vectors; tile.first_vector += kVectorsTogether) {
      accumulate_heads<Load, kVectorsTogether>(layout, tile, weights, rows, sums);
    }
    for (; tile.first_vector < vectors; ++tile.first_vector) {
      accumulate_heads<Load, 1>(layout, tile, weights, rows, sums);
    }
  }
}

constexpr DecodeKernels kKernels = {
    .name = "avx512",
    .score = {score<LoadF32>, score<LoadF16>, score<LoadBF16>, score<LoadQ8>},
    .accumulate = {accumulate<LoadF32>, accumulate<LoadF16>, accumulate<LoadBF16>,
                   accumulate<LoadQ8>},
    .maximum = maximum,
    .sum_exp2 = sum_exp2,
    .replace_exp2 = replace_exp2,
    .select = select,
    .add_scaled = add_scaled,
    .collect = collect,
};

}  // namespace

const DecodeKernels* compiled_avx512_decode_kernels() { return &kKernels; }

}  // namespace sift::cpu

#else

namespace sift::cpu {

const DecodeKernels* compiled_avx512_decode_kernels() { return nullptr; }

}  // namespace sift::cpu

#endif
