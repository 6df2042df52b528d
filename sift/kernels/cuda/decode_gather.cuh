#pragma once

// How a warp reads 16 rows of K or V from anywhere in the cache straight into the registers that
// tensor cores take. Which lane has which dimensions is free as long as the other operand or the
// result has them in the same order, so that every load takes 16 neighbouring bytes (8 where rows
// are no multiple of 128), and eight or four lanes read on in one row.

#include "sift/kernels/cuda/decode_tiles.cuh"

namespace sift::cuda {

/// 16 bytes that no other block needs, of rows of kRowBytes.
template <int kRowBytes>
__device__ inline uint4 load_row_16(const char* from) {
  uint4 v;
  if constexpr (kRowBytes % 256 == 0) {
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
  } else {
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
  }
  return v;
}
__device__ inline uint2 load_row_8(const char* from) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(from));
  return v;
}

/// The same address, which the compiler does not work out once more for each load that is near it.
__device__ inline const char* settled(const char* address) {
  asm volatile("" : "+l"(address));
  return address;
}

/// Bytes from `side` of a row at `offset`.
__device__ inline std::int64_t row_bytes(std::uint32_t offset) {
  return static_cast<std::int64_t>(std::uint64_t{offset} * 16);
}

/// Four rows of V: those that lane 4 g + t gives to a product over 16 rows, 2t, 2t + 1, 2t + 8 and
/// 2t + 9, and of them the dimensions that dimension(i, g) names.
template <int kDim>
struct ValueRows {
  static constexpr int kWords = kDim / 16;               ///< two dimensions each
  static constexpr int kPiece = kDim % 64 == 0 ? 4 : 2;  ///< words of a load
  std::uint32_t words[4][kWords];

  /// The first of the two dimensions of word i.
  static __device__ int dimension(int i, int g) {
    return i / kPiece * (16 * kPiece) + g * (2 * kPiece) + i % kPiece * 2;
  }

  /// `side`: the first row of all.
  __device__ void load(const char* side, const std::uint32_t* offsets, const LanePlace& at) {
    const uint2 low = *reinterpret_cast<const uint2*>(offsets + 2 * at.t);
    const uint2 high = *reinterpret_cast<const uint2*>(offsets + 2 * at.t + 8);
    const std::uint32_t of[4] = {low.x, low.y, high.x, high.y};
    side += at.g * 4 * kPiece;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const char* from = settled(side + row_bytes(of[i]));
#pragma unroll
      for (int p = 0; p < kWords / kPiece; ++p) {
        std::uint32_t* to = words[i] + p * kPiece;
        if constexpr (kPiece == 4) {
          const uint4 piece = load_row_16<2 * kDim>(from + 128 * p);
          to[0] = piece.x;
          to[1] = piece.y;
          to[2] = piece.z;
          to[3] = piece.w;
        } else {
          const uint2 piece = load_row_8(from + 64 * p);
          to[0] = piece.x;
          to[1] = piece.y;
        }
      }
    }
  }
};

/// Sums of weighted rows of V: [h][i][j] is that of dimension ValueRows::dimension(i, g) + j / 2
/// under head 8 h + 2t + j % 2.
template <class T, int kDim, int kHeadTiles>
struct GatheredSums {
  static constexpr int kWords = ValueRows<kDim>::kWords;
  float of[kHeadTiles][kWords][4] = {};
  float weights[kHeadTiles][4] = {};  ///< sums of the weights alone, of the same heads

  /// pairs[h]: the weights of rows 2t, 2t + 1, and of 2t + 8, 2t + 9, under head 8 h + g.
  __device__ void add(const ValueRows<kDim>& rows, const std::uint32_t (&pairs)[kHeadTiles][2]) {
    const auto& words = rows.words;
    const std::uint32_t one = Format<T>::pack(1, 1);
    const std::uint32_t ones[4] = {one, one, one, one};
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      Format<T>::multiply_add(weights[h], ones, pairs[h][0], pairs[h][1]);
    }
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const std::uint32_t a[4] = {__byte_perm(words[0][i], words[1][i], 0x5410),
                                  __byte_perm(words[0][i], words[1][i], 0x7632),
                                  __byte_perm(words[2][i], words[3][i], 0x5410),
                                  __byte_perm(words[2][i], words[3][i], 0x7632)};
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) {
        Format<T>::multiply_add(of[h][i], a, pairs[h][0], pairs[h][1]);
      }
    }
  }
};

/// Queries of up to 8 · kHeadTiles heads for KeyRows: words[h][p] are the dimensions 32 p + 8t …
/// 32 p + 8t + 7 of head 8 h + g.
template <int kDim, int kHeadTiles>
struct GatherQuery {
  uint4 words[kHeadTiles][kDim / 32];

  template <class T>
  __device__ void load(const T* query, int group, const LanePlace& at) {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = 8 * h + at.g;
#pragma unroll
      for (int p = 0; p < kDim / 32; ++p) {
        words[h][p] = {0, 0, 0, 0};
        if (head >= group) continue;
        words[h][p] =
            __ldg(reinterpret_cast<const uint4*>(query + head * kDim + 32 * p + 8 * at.t));
      }
    }
  }
};

/// Rows g and g + 8 of 16 rows of K, of each the dimensions of the lane's part of the query.
template <int kDim>
struct KeyRows {
  uint4 low[kDim / 32];
  uint4 high[kDim / 32];

  /// `side`: the first row of all.
  __device__ void load(const char* side, const std::uint32_t* offsets, const LanePlace& at) {
    const std::uint32_t first = offsets[at.g];
    const std::uint32_t second = offsets[at.g + 8];
    load(side + row_bytes(first), side + row_bytes(second), at);
  }

  /// The rows that lie at `first` and `second`.
  __device__ void load(const char* first, const char* second, const LanePlace& at) {
    first = settled(first + 16 * at.t);
    second = settled(second + 16 * at.t);
#pragma unroll
    for (int p = 0; p < kDim / 32; ++p) {
      low[p] = load_row_16<2 * kDim>(first + 64 * p);
      high[p] = load_row_16<2 * kDim>(second + 64 * p);
    }
  }

  /// Products: [i] is that of row g + 8 · (i / 2) under head 8 h + 2t + i % 2.
  template <class T, int kHeadTiles>
  __device__ void multiply(float (&products)[4], const GatherQuery<kDim, kHeadTiles>& query,
                           int h) const {
#pragma unroll
    for (int p = 0; p < kDim / 32; ++p) {
      const uint4& q = query.words[h][p];
      const std::uint32_t a[4] = {low[p].x, high[p].x, low[p].y, high[p].y};
      Format<T>::multiply_add(products, a, q.x, q.y);
      const std::uint32_t b[4] = {low[p].z, high[p].z, low[p].w, high[p].w};
      Format<T>::multiply_add(products, b, q.z, q.w);
    }
  }
};

}  // namespace sift::cuda
