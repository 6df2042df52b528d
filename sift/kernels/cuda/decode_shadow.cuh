#pragma once

// How a warp estimates the scores of 16 keys from a tile of their shadows (key_shadow.h): keys are
// the rows of the product and heads its columns.

#include "sift/kernels/cuda/decode_tiles.cuh"
#include "sift/kernels/cuda/key_shadow.h"

namespace sift::cuda {

/// Words that lie side by side in shared memory.
template <int kWords>
__device__ void load_words(std::uint32_t (&words)[kWords], const char* from) {
  if constexpr (kWords % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(from + 4 * i);
      words[i] = four.x;
      words[i + 1] = four.y;
      words[i + 2] = four.z;
      words[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      words[i] = *reinterpret_cast<const std::uint32_t*>(from + 4 * i);
    }
  }
}

/// Queries of up to 8 · kHeadTiles heads in the order of a shadow's codes, as halves.
template <int kDim, int kHeadTiles>
class ShadowQuery {
 public:
  static constexpr int kSteps = kDim / 32;

  /// Values of codes i and i + 4 of unit 4 s + t under head 8 h + g.
  std::uint32_t pairs[kHeadTiles][kSteps][4];
  /// Of head 8 h + 2t + j: the sum of the 32 values of a step, and what a 1 of `pairs` stands for.
  /// Both with the scale of scores.
  float sums[kHeadTiles][kSteps][2];
  float units[kHeadTiles][2];

  /// `odd`: what values of odd pairs are multiplied by.
  template <class T>
  __device__ void load(const T* query, int group, ShadowOrder order, float scale, float odd,
                       const LanePlace& at) {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = 8 * h + at.g;
      float most = 0;
      float step_sums[kSteps];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        load_unit(pairs[h][s], query + head * kDim, 4 * s + at.t, order, head < group);
        float sum = 0;
#pragma unroll
        for (const std::uint32_t pair : pairs[h][s]) {
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

  // Makes pairs halves, those of the wider format so that the greatest of a head is about 2^10.
  // Returns what a 1 stands for, a power of two.
  template <class T>
  __device__ float to_halves(int h, float most, float odd) {
    if constexpr (Format<T>::kIsHalf) {
      const __half2 by = __float2half2_rn(odd);
#pragma unroll
      for (auto& step : pairs[h]) {
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
      for (auto& step : pairs[h]) {
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

/// Products of the codes of a step, for two keys pairs of codes i and i + 4, i < 4, as halves.
__device__ inline void multiply_step(float (&sums)[4], const std::uint32_t (&pairs)[4],
                                     const std::uint32_t (&low)[4],
                                     const std::uint32_t (&high)[4]) {
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const std::uint32_t a[4] = {low[i], high[i], low[i + 1], high[i + 1]};
    Format<__half>::multiply_add(sums, a, pairs[i], pairs[i + 1]);
  }
}

/// Shadows of keys g and g + 8 of a tile, of each the codes of the lane's part of the query.
/// kBlock: values that share a scale, or 0 for fp8.
template <int kDim, int kBlock>
struct ShadowRows {
  static constexpr int kSteps = kDim / 32;
  static constexpr int kScales = kDim / kBlock;
  static constexpr int kTileBytes = 8 * kDim + kTileKeys * kScales * 4;
  /// Every second code is multiplied as 16 times what it is.
  static constexpr float kOdd = 1.0F / 16;
  std::uint32_t codes[2][kSteps];
  std::uint32_t scales[2][kScales];  ///< and zeros

  __device__ void load(const char* tile, const LanePlace& at) {
    const char* of_lane = tile + at.lane * kSteps * 4;
    const char* of_key = tile + 8 * kDim + at.g * kScales * 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      load_words(codes[half], of_lane + half * kWarpThreads * kSteps * 4);
      load_words(scales[half], of_key + half * 8 * kScales * 4);
    }
  }

  /// Scores: [i] is that of key g + 8 · (i / 2) under head 8 h + 2t + i % 2. Codes are multiplied
  /// as subnormal halves, 2^-24 times what they are.
  template <int kHeadTiles>
  __device__ void multiply(float (&scores)[4], const ShadowQuery<kDim, kHeadTiles>& query,
                           int h) const {
    float scaled[4] = {};
    float shifted[4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      std::uint32_t of[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t word = codes[half][s];
        of[half][0] = word & 0x000f000fU;
        of[half][1] = word & 0x00f000f0U;
        of[half][2] = word >> 8 & 0x000f000fU;
        of[half][3] = word >> 8 & 0x00f000f0U;
      }
      float sums[4] = {};
      multiply_step(sums, query.pairs[h][s], of[0], of[1]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 scale =
            __half22float2(*reinterpret_cast<const __half2*>(&scales[i / 2][s * kScales / kSteps]));
        scaled[i] += scale.x * sums[i];
        shifted[i] += scale.y * query.sums[h][s][i % 2];
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[i] = scaled[i] * (query.units[h][i % 2] * 16777216.0F) + shifted[i];
    }
  }
};

template <int kDim>
struct ShadowRows<kDim, 0> {
  static constexpr int kSteps = kDim / 32;
  static constexpr int kTileBytes = 16 * kDim + kTileKeys * 4;
  static constexpr float kOdd = 1;
  std::uint32_t codes[2][2 * kSteps];
  float scales[2];

  __device__ void load(const char* tile, const LanePlace& at) {
    const char* of_lane = tile + at.lane * kSteps * 8;
    const auto* of_key = reinterpret_cast<const float*>(tile + 16 * kDim) + at.g;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      load_words(codes[half], of_lane + half * kWarpThreads * kSteps * 8);
      scales[half] = of_key[8 * half];
    }
  }

  /// Codes are multiplied as halves, 2^-8 times what they are.
  template <int kHeadTiles>
  __device__ void multiply(float (&scores)[4], const ShadowQuery<kDim, kHeadTiles>& query,
                           int h) const {
    float sums[4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      std::uint32_t of[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const std::uint32_t both =
              __byte_perm(codes[half][2 * s], codes[half][2 * s + 1], 0x4400U + 0x1111U * i);
          of[half][i] = (both & 0x80008000U) | (both >> 1 & 0x3f803f80U);
        }
      }
      multiply_step(sums, query.pairs[h][s], of[0], of[1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[i] = sums[i] * (query.units[h][i % 2] * 256.0F) * scales[i / 2];
    }
  }
};

}  // namespace sift::cuda
