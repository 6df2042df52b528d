#pragma once

// How a warp estimates the scores of 16 keys from a tile of their shadows (key_shadow.h): keys are
// the rows of the product and heads its columns.

#include "sift/kernels/cuda/decode_tiles.cuh"
#include "sift/kernels/cuda/key_shadow.h"

namespace sift::cuda {

/// Queries of up to 8 · kHeadTiles heads in the order of a shadow's codes, as halves. With
/// kSharing = 2 there are up to four, and a product has two tiles of keys: the heads are the
/// columns 0 to 3 for the first tile and 4 to 7 for the second, and zero elsewhere.
template <int kDim, int kHeadTiles, int kSharing>
class ShadowQuery {
  static_assert(kSharing == 1 || kHeadTiles == 1);

 public:
  static constexpr int kSteps = kDim / 32;

  /// Values of codes i and i + 4 of unit 4 s + t under the head of column 8 h + g.
  std::uint32_t pairs[kSharing][kHeadTiles][kSteps][4];
  /// Of column 8 h + 2t + j: the sum of the 32 values of a step, and what a 1 of `pairs` stands
  /// for. Both with the scale of scores.
  float sums[kHeadTiles][kSteps][2];
  float units[kHeadTiles][2];

  /// `odd`: what values of odd pairs are multiplied by.
  template <class T>
  __device__ void load(const T* query, int group, ShadowOrder order, float scale, float odd,
                       const LanePlace& at) {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = kSharing == 2 ? at.g % 4 : 8 * h + at.g;
      float most = 0;
      float step_sums[kSteps];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        auto& step = pairs[0][h][s];
        load_unit(step, query + head * kDim, 4 * s + at.t, order, head < group);
        float sum = 0;
#pragma unroll
        for (const std::uint32_t pair : step) {
          const float2 both = Format<T>::unpack(pair);
          sum += both.x + both.y;
          most = fmaxf(most, fmaxf(fabsf(both.x), fabsf(both.y)));
        }
        sum += __shfl_xor_sync(kAllLanes, sum, 1);
        step_sums[s] = (sum + __shfl_xor_sync(kAllLanes, sum, 2)) * scale;
      }
      const float unit = to_halves<T>(h, most, odd) * scale;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int from = 4 * (2 * at.t + j);
        units[h][j] = Format<T>::kIsHalf ? scale : __shfl_sync(kAllLanes, unit, from);
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          sums[h][s][j] = __shfl_sync(kAllLanes, step_sums[s], from);
        }
      }
    }
    if constexpr (kSharing == 2) share_columns(at);
  }

 private:
  // The values of 8 codes, i and i + 4 as pairs, i < 4.
  template <class T>
  static __device__ void load_unit(std::uint32_t (&to)[4], const T* query, int unit,
                                   ShadowOrder order, bool present) {
    uint4 low = {0, 0, 0, 0};
    uint4 high = {0, 0, 0, 0};
    if (order == ShadowOrder::as_stored) {
      if (present) low = __ldg(reinterpret_cast<const uint4*>(query) + unit);
      to[0] = __byte_perm(low.x, low.z, 0x5410);
      to[1] = __byte_perm(low.x, low.z, 0x7632);
      to[2] = __byte_perm(low.y, low.w, 0x5410);
      to[3] = __byte_perm(low.y, low.w, 0x7632);
      return;
    }
    // Every second one of 16 values: the even ones for codes of the first half, else the odd ones.
    const bool is_even = 16 * unit < kDim;
    const auto* from = reinterpret_cast<const uint4*>(query + 16 * unit - (is_even ? 0 : kDim));
    if (present) {
      low = __ldg(from);
      high = __ldg(from + 1);
    }
    const unsigned which = is_even ? 0x5410U : 0x7632U;
    to[0] = __byte_perm(low.x, high.x, which);
    to[1] = __byte_perm(low.y, high.y, which);
    to[2] = __byte_perm(low.z, high.z, which);
    to[3] = __byte_perm(low.w, high.w, which);
  }

  // Leaves columns to the tile that they are of.
  __device__ void share_columns(const LanePlace& at) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t pair = pairs[0][0][s][i];
        pairs[0][0][s][i] = at.g < 4 ? pair : 0;
        pairs[1][0][s][i] = at.g < 4 ? 0 : pair;
      }
    }
  }

  // Makes pairs halves, those of the wider format so that the greatest of a head is about 2^10.
  // Returns what a 1 stands for, a power of two.
  template <class T>
  __device__ float to_halves(int h, float most, float odd) {
    if constexpr (Format<T>::kIsHalf) {
      const __half2 by = __float2half2_rn(odd);
#pragma unroll
      for (auto& step : pairs[0][h]) {
#pragma unroll
        for (int i = 1; i < 4; i += 2) {
          const __half2 scaled = __hmul2(*reinterpret_cast<const __half2*>(&step[i]), by);
          step[i] = *reinterpret_cast<const std::uint32_t*>(&scaled);
        }
      }
      return 1;
    } else {
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
      const int exponent = most > 0 && isfinite(most) ? ilogbf(most) - 10 : 0;
      const float even = ldexpf(1.0F, -exponent);
#pragma unroll
      for (auto& step : pairs[0][h]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float by = i % 2 == 1 ? even * odd : even;
          const float2 both = Format<T>::unpack(step[i]);
          step[i] = Format<__half>::pack(both.x * by, both.y * by);
        }
      }
      return ldexpf(1.0F, exponent);
    }
  }
};

/// What a lane has of a tile: codes of keys g and g + 8 in its part of the query, and what those of
/// a key share. kBlock: values that share a scale, or 0 for fp8.
template <int kDim, int kBlock>
struct ShadowTile {
  static constexpr int kSteps = kDim / 32;
  static constexpr int kScales = kDim / kBlock;
  static constexpr int kCodeWords = kSteps;
  static constexpr int kBytes = 8 * kDim + kTileKeys * kScales * 4;
  /// Every second code is multiplied as 16 times what it is.
  static constexpr float kOdd = 1.0F / 16;

  struct Codes {
    std::uint32_t of[2][kCodeWords];

    /// Of step s, pairs of codes i and i + 4, i < 4, of one of the two keys, as subnormal halves:
    /// 2^-24 times what they are.
    __device__ void unpack(std::uint32_t (&pairs)[4], int key, int s) const {
      const std::uint32_t word = of[key][s];
      pairs[0] = word & 0x000f000fU;
      pairs[1] = word & 0x00f000f0U;
      pairs[2] = word >> 8 & 0x000f000fU;
      pairs[3] = word >> 8 & 0x00f000f0U;
    }
  };

  struct Scales {
    std::uint32_t of[2][kScales];  ///< and zeros

    __device__ void load(const char* tile, const LanePlace& at, std::uint64_t policy) {
      const char* of_key = tile + 8 * kDim + at.g * kScales * 4;
#pragma unroll
      for (int key = 0; key < 2; ++key) load_words(of[key], of_key + key * 8 * kScales * 4, policy);
    }
    __device__ float2 step(int key, int s) const {
      return __half22float2(*reinterpret_cast<const __half2*>(&of[key][s * kScales / kSteps]));
    }
  };
};

template <int kDim>
struct ShadowTile<kDim, 0> {
  static constexpr int kSteps = kDim / 32;
  static constexpr int kCodeWords = 2 * kSteps;
  static constexpr int kBytes = 16 * kDim + kTileKeys * 4;
  static constexpr float kOdd = 1;

  struct Codes {
    std::uint32_t of[2][kCodeWords];

    /// As halves, 2^-8 times what they are.
    __device__ void unpack(std::uint32_t (&pairs)[4], int key, int s) const {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t both =
            __byte_perm(of[key][2 * s], of[key][2 * s + 1], 0x4400U + 0x1111U * i);
        pairs[i] = (both & 0x80008000U) | (both >> 1 & 0x3f803f80U);
      }
    }
  };

  struct Scales {
    std::uint32_t of[2][1];

    __device__ void load(const char* tile, const LanePlace& at, std::uint64_t policy) {
      const char* of_key = tile + 16 * kDim + at.g * 4;
#pragma unroll
      for (int key = 0; key < 2; ++key) load_words(of[key], of_key + key * 32, policy);
    }
    __device__ float row(int key) const { return __uint_as_float(of[key][0]); }
  };
};

/// Tiles of shadows that a lane loads at once. kSharing of them share a product, and a lane needs
/// the scales of the one alone whose columns it has.
template <int kDim, int kBlock, int kTiles, int kSharing>
class ShadowTiles {
  using Tile = ShadowTile<kDim, kBlock>;

 public:
  static constexpr int kProducts = kTiles / kSharing;

  /// `tiles`: where they are; `own`: which of those of a product the lane has scales of.
  __device__ void load(const char* const (&tiles)[kTiles], int own, const LanePlace& at,
                       std::uint64_t policy) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const char* of_lane = tiles[tile] + at.lane * Tile::kCodeWords * 4;
#pragma unroll
      for (int key = 0; key < 2; ++key) {
        load_words(codes_[tile].of[key], of_lane + key * kWarpThreads * Tile::kCodeWords * 4,
                   policy);
      }
    }
#pragma unroll
    for (int product = 0; product < kProducts; ++product) {
      const char* tile = tiles[product * kSharing];
      if (kSharing == 2 && own == 1) tile = tiles[product * kSharing + kSharing - 1];
      scales_[product].load(tile, at, policy);
    }
  }

  /// Scores: [i] is that of key g + 8 · (i / 2) of the lane's tile under column 8 h + 2t + i % 2.
  template <int kHeadTiles>
  __device__ void multiply(float (&scores)[4], const ShadowQuery<kDim, kHeadTiles, kSharing>& query,
                           int product, int h) const {
    const auto& scales = scales_[product];
    if constexpr (kBlock == 0) {
      float sums[4] = {};
#pragma unroll
      for (int s = 0; s < Tile::kSteps; ++s) add_step(sums, query, product, h, s);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[i] = sums[i] * (query.units[h][i % 2] * 256.0F) * scales.row(i / 2);
      }
    } else {
      float scaled[4] = {};
      float shifted[4] = {};
#pragma unroll
      for (int s = 0; s < Tile::kSteps; ++s) {
        float sums[4] = {};
        add_step(sums, query, product, h, s);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 scale = scales.step(i / 2, s);
          scaled[i] += scale.x * sums[i];
          shifted[i] += scale.y * query.sums[h][s][i % 2];
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[i] = scaled[i] * (query.units[h][i % 2] * 16777216.0F) + shifted[i];
      }
    }
  }

 private:
  // Adds the products of the codes of a step.
  template <int kHeadTiles>
  __device__ void add_step(float (&sums)[4], const ShadowQuery<kDim, kHeadTiles, kSharing>& query,
                           int product, int h, int s) const {
#pragma unroll
    for (int share = 0; share < kSharing; ++share) {
      const auto& codes = codes_[product * kSharing + share];
      std::uint32_t low[4];
      std::uint32_t high[4];
      codes.unpack(low, 0, s);
      codes.unpack(high, 1, s);
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const std::uint32_t a[4] = {low[i], high[i], low[i + 1], high[i + 1]};
        const auto& pairs = query.pairs[share][h][s];
        Format<__half>::multiply_add(sums, a, pairs[i], pairs[i + 1]);
      }
    }
  }

  typename Tile::Codes codes_[kTiles];
  typename Tile::Scales scales_[kProducts];
};

}  // namespace sift::cuda
