#include "sift/kernels/cpu/tile_avx512.h"

namespace sift::cpu {
namespace {

SIFT_INLINE __m512i broadcast_word(const void* p) {
  return _mm512_set1_epi32(*static_cast<const std::int32_t*>(p));
}

/// Four partial sums, added in a fixed order.
struct Sums {
  __m512 v[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                 _mm512_setzero_ps()};
  SIFT_INLINE __m512 total() const {
    return _mm512_add_ps(_mm512_add_ps(v[0], v[1]), _mm512_add_ps(v[2], v[3]));
  }
};

/// Σ over one block of step · (code − offset) · x.
template <TileFormat format>
SIFT_INLINE __m512 block_product_f32(const CodeTable<format>& table, __m512 d,
                                     const std::uint8_t* block, const float* x) {
  const Codes codes = load_codes<format>(block);
  Sums sums[2];
  SIFT_UNROLL
  for (int k = 0; k < 8; ++k) {
    Sums& s = sums[format.scales == 2 ? k / 4 : 0];
    const float* at = x + 4 * k;
    const __m512i v = codes.v[k];
    s.v[0] = _mm512_fmadd_ps(table.template value<0>(v), _mm512_set1_ps(at[0]), s.v[0]);
    s.v[1] = _mm512_fmadd_ps(table.template value<1>(v), _mm512_set1_ps(at[1]), s.v[1]);
    s.v[2] = _mm512_fmadd_ps(table.template value<2>(v), _mm512_set1_ps(at[2]), s.v[2]);
    s.v[3] = _mm512_fmadd_ps(table.template value<3>(v), _mm512_set1_ps(at[3]), s.v[3]);
  }
  const __m512 first = _mm512_mul_ps(step_of<format>(d, block, 0), sums[0].total());
  if constexpr (format.scales != 2) return first;
  return _mm512_fmadd_ps(step_of<format>(d, block, 1), sums[1].total(), first);
}

template <TileFormat format>
void multiply_f32(const TileView& weight, std::int64_t begin, std::int64_t end,
                  const DecodeInput& input, bool add, float* out) {
  const CodeTable<format> table;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    for (std::int64_t row = 0; row < input.rows; ++row) {
      const float* x = input.values + row * input.blocks * kBlockColumns;
      const float* x_sums = input.sums + row * input.blocks;
      __m512 sum = _mm512_setzero_ps();
      visit_blocks<format>(
          weight, tile,
          [&](__m512 d, __m512 m, const std::uint8_t* block, std::int64_t b) SIFT_LAMBDA_INLINE {
            sum = _mm512_add_ps(sum,
                                block_product_f32<format>(table, d, block, x + b * kBlockColumns));
            if constexpr (format.has_min) {
              sum = _mm512_fmadd_ps(min_of<format>(m, block), _mm512_set1_ps(x_sums[b]), sum);
            }
          });
      store_tile(weight, tile, sum, add, out + row * weight.outputs);
    }
  }
}

template <TileFormat format>
void multiply_bf16(const TileView& weight, std::int64_t begin, std::int64_t end,
                   const DecodeInput& input, bool add, float* out) {
  const CodeTable<format> table;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    for (std::int64_t row = 0; row < input.rows; ++row) {
      const std::uint16_t* x = input.pairs + row * input.blocks * kBlockColumns;
      Sums sums;
      visit_blocks<format>(
          weight, tile,
          [&](__m512 d, __m512 m, const std::uint8_t* block, std::int64_t b) SIFT_LAMBDA_INLINE {
            const std::uint16_t* at = x + b * kBlockColumns;
            visit_values<format>(table, d, m, block,
                                 [&](int p, __m512 even, __m512 odd) SIFT_LAMBDA_INLINE {
                                   const __m512bh w = as_bfloat(round_pairs(even, odd));
                                   const __m512bh a = as_bfloat(broadcast_word(at + 2 * p));
                                   sums.v[p % 4] = _mm512_dpbf16_ps(sums.v[p % 4], w, a);
                                 });
          });
      store_tile(weight, tile, sums.total(), add, out + row * weight.outputs);
    }
  }
}

/// Σ over half a block of code · x in integers.
SIFT_INLINE __m512i half_product_q8(const __m512i* codes, const std::int8_t* x, __m512i start) {
  __m512i even = _mm512_dpbusd_epi32(start, codes[0], broadcast_word(x));
  __m512i odd = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[1], broadcast_word(x + 4));
  even = _mm512_dpbusd_epi32(even, codes[2], broadcast_word(x + 8));
  odd = _mm512_dpbusd_epi32(odd, codes[3], broadcast_word(x + 12));
  return _mm512_add_epi32(even, odd);
}

/// Adds to `sum` the product of one block with 32 quantised values.
template <TileFormat format>
SIFT_INLINE __m512 add_block_q8(__m512 sum, __m512 d, __m512 m, const std::uint8_t* block,
                                const DecodeInput& input, std::int64_t b) {
  const Codes codes = load_codes<format>(block);
  const std::int8_t* x = input.codes + b * kBlockColumns;
  const __m512 x_scale = _mm512_set1_ps(input.scales[b]);
  __m512i half[2];
  SIFT_UNROLL
  for (int i = 0; i < 2; ++i) {
    const __m512i start = _mm512_set1_epi32(-format.offset * input.code_sums[2 * b + i]);
    half[i] = half_product_q8(codes.v + 4 * i, x + 16 * i, start);
  }
  const __m512 step = _mm512_mul_ps(step_of<format>(d, block, 0), x_scale);
  if constexpr (format.scales == 2) {
    const __m512 second = _mm512_mul_ps(step_of<format>(d, block, 1), x_scale);
    sum = _mm512_fmadd_ps(step, _mm512_cvtepi32_ps(half[0]), sum);
    sum = _mm512_fmadd_ps(second, _mm512_cvtepi32_ps(half[1]), sum);
  } else {
    sum = _mm512_fmadd_ps(step, _mm512_cvtepi32_ps(_mm512_add_epi32(half[0], half[1])), sum);
  }
  if constexpr (format.has_min) {
    sum = _mm512_fmadd_ps(min_of<format>(m, block), _mm512_set1_ps(input.scaled_sums[b]), sum);
  }
  return sum;
}

template <TileFormat format>
void multiply_q8(const TileView& weight, std::int64_t begin, std::int64_t end,
                 const DecodeInput& input, bool add, float* out) {
  for (std::int64_t tile = begin; tile < end; ++tile) {
    for (std::int64_t row = 0; row < input.rows; ++row) {
      __m512 sum = _mm512_setzero_ps();
      visit_blocks<format>(
          weight, tile,
          [&](__m512 d, __m512 m, const std::uint8_t* block, std::int64_t b) SIFT_LAMBDA_INLINE {
            sum = add_block_q8<format>(sum, d, m, block, input, row * input.blocks + b);
          });
      store_tile(weight, tile, sum, add, out + row * weight.outputs);
    }
  }
}

template <DType type>
void multiply_plain_f32(const TileView& weight, std::int64_t begin, std::int64_t end,
                        const DecodeInput& input, bool add, float* out) {
  const std::int64_t pairs = weight.blocks * kBlockColumns / 2;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    const std::uint8_t* values = weight.tiles + tile * weight.tile_bytes;
    for (std::int64_t row = 0; row < input.rows; ++row) {
      const float* x = input.values + row * input.blocks * kBlockColumns;
      Sums sums;
      for (std::int64_t p = 0; p < pairs; p += 2) {
        SIFT_UNROLL
        for (int i = 0; i < 2; ++i) {
          __m512 even;
          __m512 odd;
          load_plain<type>(values, p + i, even, odd);
          const float* at = x + 2 * (p + i);
          sums.v[2 * i] = _mm512_fmadd_ps(even, _mm512_set1_ps(at[0]), sums.v[2 * i]);
          sums.v[2 * i + 1] = _mm512_fmadd_ps(odd, _mm512_set1_ps(at[1]), sums.v[2 * i + 1]);
        }
      }
      store_tile(weight, tile, sums.total(), add, out + row * weight.outputs);
    }
  }
}

template <DType type>
void multiply_plain_bf16(const TileView& weight, std::int64_t begin, std::int64_t end,
                         const DecodeInput& input, bool add, float* out) {
  const std::int64_t pairs = weight.blocks * kBlockColumns / 2;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    const std::uint8_t* values = weight.tiles + tile * weight.tile_bytes;
    for (std::int64_t row = 0; row < input.rows; ++row) {
      const std::uint16_t* x = input.pairs + row * input.blocks * kBlockColumns;
      Sums sums;
      for (std::int64_t p = 0; p < pairs; p += 4) {
        SIFT_UNROLL
        for (int i = 0; i < 4; ++i) {
          const __m512bh w = as_bfloat(load_plain_pairs<type>(values, p + i));
          const __m512bh a = as_bfloat(broadcast_word(x + 2 * (p + i)));
          sums.v[i] = _mm512_dpbf16_ps(sums.v[i], w, a);
        }
      }
      store_tile(weight, tile, sums.total(), add, out + row * weight.outputs);
    }
  }
}

template <TileFormat format>
void expand_f32(const TileView& weight, std::int64_t tile, std::int64_t stride, void* destination) {
  const CodeTable<format> table;
  visit_blocks<format>(
      weight, tile,
      [&](__m512 d, __m512 m, const std::uint8_t* block, std::int64_t b) SIFT_LAMBDA_INLINE {
        float* out = static_cast<float*>(destination) + b * kBlockColumns * stride;
        visit_values<format>(table, d, m, block,
                             [&](int p, __m512 even, __m512 odd) SIFT_LAMBDA_INLINE {
                               _mm512_storeu_ps(out + 2 * p * stride, even);
                               _mm512_storeu_ps(out + (2 * p + 1) * stride, odd);
                             });
      });
}

template <TileFormat format>
void expand_pairs(const TileView& weight, std::int64_t tile, std::int64_t stride,
                  void* destination) {
  const CodeTable<format> table;
  visit_blocks<format>(
      weight, tile,
      [&](__m512 d, __m512 m, const std::uint8_t* block, std::int64_t b) SIFT_LAMBDA_INLINE {
        auto* out = static_cast<std::uint32_t*>(destination) + b * (kBlockColumns / 2) * stride;
        visit_values<format>(table, d, m, block,
                             [&](int p, __m512 even, __m512 odd) SIFT_LAMBDA_INLINE {
                               _mm512_storeu_si512(out + p * stride, round_pairs(even, odd));
                             });
      });
}

template <DType type>
void expand_plain_f32(const TileView& weight, std::int64_t tile, std::int64_t stride,
                      void* destination) {
  const std::uint8_t* values = weight.tiles + tile * weight.tile_bytes;
  auto* out = static_cast<float*>(destination);
  for (std::int64_t p = 0; p < weight.blocks * kBlockColumns / 2; ++p) {
    __m512 even;
    __m512 odd;
    load_plain<type>(values, p, even, odd);
    _mm512_storeu_ps(out + 2 * p * stride, even);
    _mm512_storeu_ps(out + (2 * p + 1) * stride, odd);
  }
}

template <DType type>
void expand_plain_pairs(const TileView& weight, std::int64_t tile, std::int64_t stride,
                        void* destination) {
  const std::uint8_t* values = weight.tiles + tile * weight.tile_bytes;
  auto* out = static_cast<std::uint32_t*>(destination);
  for (std::int64_t p = 0; p < weight.blocks * kBlockColumns / 2; ++p) {
    _mm512_storeu_si512(out + p * stride, load_plain_pairs<type>(values, p));
  }
}

template <TileFormat format>
constexpr TileKernels kQuantised = {
    multiply_f32<format>, multiply_bf16<format>, multiply_q8<format>, expand_f32<format>, nullptr,
    expand_pairs<format>};

template <DType type>
constexpr TileKernels kPlain = {multiply_plain_f32<type>,
                                multiply_plain_bf16<type>,
                                multiply_plain_f32<type>,
                                expand_plain_f32<type>,
                                nullptr,
                                expand_plain_pairs<type>};

}  // namespace

TileKernels avx512_kernels(DType type) {
  switch (type) {
    case DType::f32:
      return kPlain<DType::f32>;
    case DType::f16:
      return kPlain<DType::f16>;
    case DType::bf16:
      return kPlain<DType::bf16>;
    case DType::q8_0:
      return kQuantised<kQ8_0>;
    case DType::q4_0:
      return kQuantised<kQ4_0>;
    case DType::q4_1:
      return kQuantised<kQ4_1>;
    case DType::q5_0:
      return kQuantised<kQ5_0>;
    case DType::q5_1:
      return kQuantised<kQ5_1>;
    case DType::q4_k:
      return kQuantised<kQ4_K>;
    case DType::q5_k:
      return kQuantised<kQ5_K>;
    case DType::q6_k:
      return kQuantised<kQ6_K>;
  }
  return {};
}

}  // namespace sift::cpu
