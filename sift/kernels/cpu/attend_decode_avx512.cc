// Decode attention for AVX-512. Everything but the table's getter has internal linkage, and no
// inline function of other headers is called: its copy made here could serve processors that lack
// AVX-512.

#include "sift/kernels/cpu/attend_decode_kernels.h"

#ifdef __AVX512F__
#include "sift/kernels/cpu/attend_keys_avx512.h"
#include "sift/kernels/cpu/attend_scores_avx512.h"

namespace sift::cpu {
namespace {

constexpr int kVectorsTogether = 4;  // vectors of a value row whose sums stay in registers
constexpr int kRowsTogether = 16;    // rows that are met again for other heads or vectors

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
    for (int v = 0; v < kVectors; ++v)
      value[v] = Load::load(rows[row], tile.first_vector + v, layout.head_dim);
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
    .score_rows = {score_rows<LoadF32>, score_rows<LoadF16>, score_rows<LoadBF16>,
                   score_rows<LoadQ8>},
    .score_shadow = {score<LoadShadow4<16>>, score<LoadShadow4<32>>, score<LoadShadow4<64>>,
                     score<LoadShadowFp8>},
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
