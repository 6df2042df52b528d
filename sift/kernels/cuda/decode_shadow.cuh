#pragma once

#include "sift/kernels/cuda/decode_scores.cuh"
#include "sift/kernels/cuda/key_shadow.h"

namespace sift::cuda {

/// Queries of up to 8 · kHeadTiles heads in the order of a shadow's codes (key_shadow.h), as
/// halves: pairs[h][s][i] has the values of codes i and i + 4 of unit 4 s + t under head 8 h + g.
template <int kDim, int kHeadTiles>
struct ShadowQuery {
  static constexpr int kSteps = kDim / 32;
  std::uint32_t pairs[kHeadTiles][kSteps][4];
  float sums[kHeadTiles][kSteps];  ///< of the 32 values of a step, over all lanes of the head
  float unit[kHeadTiles];          ///< what a 1 of `pairs` stands for, a power of two

  template <class T>
  __device__ void load(const T* query, int group, ShadowOrder order, const LanePlace& at) {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = 8 * h + at.g;
      float most = 0;
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        float values[8];
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int code = 32 * s + 8 * at.t + i;
          values[i] =
              head < group
                  ? Format<T>::to_float(query[head * kDim + shadowed_value(order, kDim, code)])
                  : 0;
          sum += values[i];
          most = fmaxf(most, fabsf(values[i]));
        }
        sum += __shfl_xor_sync(kAllLanes, sum, 1);
        sums[h][s] = sum + __shfl_xor_sync(kAllLanes, sum, 2);
#pragma unroll
        for (int i = 0; i < 4; ++i) pairs[h][s][i] = Format<T>::pack(values[i], values[i + 4]);
      }
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
      to_halves<T>(h, most);
    }
  }

 private:
  // Values of the wider format are made to fit halves, the greatest of a head to about 2^10.
  template <class T>
  __device__ void to_halves(int h, float most) {
    unit[h] = 1;
    if constexpr (!Format<T>::kIsHalf) {
      const int exponent = most > 0 && isfinite(most) ? ilogbf(most) - 10 : 0;
      unit[h] = ldexpf(1.0F, exponent);
      const float by = ldexpf(1.0F, -exponent);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 both = Format<T>::unpack(pairs[h][s][i]);
          pairs[h][s][i] = Format<__half>::pack(both.x * by, both.y * by);
        }
      }
    }
  }
};

/// Words of a lane's codes, which lie side by side.
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

/// Estimates of a step's product: pairs of codes i and i + 4, i < 4, as halves.
template <int kHeadTiles, int kSteps>
__device__ void multiply_step(float (&sums)[4], const std::uint32_t (&pairs)[kHeadTiles][kSteps][4],
                              int s, const std::uint32_t (&codes)[4]) {
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const std::uint32_t a[4] = {pairs[0][s][i], kHeadTiles == 2 ? pairs[kHeadTiles - 1][s][i] : 0,
                                pairs[0][s][i + 1],
                                kHeadTiles == 2 ? pairs[kHeadTiles - 1][s][i + 1] : 0};
    Format<__half>::multiply_add(sums, a, codes[i], codes[i + 1]);
  }
}

/// Scores of 16 keys from a tile of shadows of 4 bits. Codes are multiplied as subnormal halves,
/// 2^-24 times what they are.
template <int kDim, int kHeadTiles>
__device__ ScoreTile estimate_four_bits(const ShadowQuery<kDim, kHeadTiles>& query,
                                        const char* tile, int block, const LanePlace& at) {
  constexpr int kSteps = kDim / 32;
  constexpr std::uint32_t kCodes = 0x000f000fU;
  const char* scales = tile + 8 * kDim;
  const int scale_bytes = kDim / block * 4;
  ScoreTile scores;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t words[kSteps];
    load_words(words, tile + (half * kWarpThreads + at.lane) * kSteps * 4);
    float scaled[4] = {};
    float shifted[4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const std::uint32_t codes[4] = {words[s] & kCodes, words[s] >> 4 & kCodes,
                                      words[s] >> 8 & kCodes, words[s] >> 12 & kCodes};
      float sums[4] = {};
      multiply_step(sums, query.pairs, s, codes);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int key = 8 * half + 2 * at.t + j;
        const float2 scale = __half22float2(
            *reinterpret_cast<const __half2*>(scales + key * scale_bytes + 32 * s / block * 4));
#pragma unroll
        for (int h = 0; h < kHeadTiles; ++h) {
          scaled[2 * h + j] += scale.x * sums[2 * h + j];
          shifted[2 * h + j] += scale.y * query.sums[h][s];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores.of[half][i] =
          i / 2 < kHeadTiles
              ? scaled[i] * (query.unit[i / 2 < kHeadTiles ? i / 2 : 0] * 16777216.0F) + shifted[i]
              : 0;
    }
  }
  return scores;
}

/// The same from shadows in e4m3. Codes are multiplied as halves, 2^-8 times what they are.
template <int kDim, int kHeadTiles>
__device__ ScoreTile estimate_fp8(const ShadowQuery<kDim, kHeadTiles>& query, const char* tile,
                                  const LanePlace& at) {
  constexpr int kSteps = kDim / 32;
  const auto* scales = reinterpret_cast<const float*>(tile + 16 * kDim);
  ScoreTile scores;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t words[2 * kSteps];
    load_words(words, tile + (half * kWarpThreads + at.lane) * kSteps * 8);
    float sums[4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      std::uint32_t codes[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t both =
            __byte_perm(words[2 * s], words[2 * s + 1], 0x4400U + 0x1111U * i);
        codes[i] = (both & 0x80008000U) | (both >> 1 & 0x3f803f80U);
      }
      multiply_step(sums, query.pairs, s, codes);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int h = i / 2 < kHeadTiles ? i / 2 : 0;
      scores.of[half][i] = sums[i] * (query.unit[h] * 256.0F) * scales[8 * half + 2 * at.t + i % 2];
    }
  }
  return scores;
}

/// Where one warp reads shadows, what KeyTiles is for keys: one or two tiles at a time, which the
/// warps of a block take in turns. Each lane knows where one tile lies.
template <class T, int kDim, class Context>
class ShadowTiles {
 public:
  __device__ ShadowTiles(const Context& c, const Item& item)
      : lane_(c.at.lane),
        tiles_(c.a.shadows.format.code == ShadowCode::fp8 ? 1 : 2),
        first_(c.warp * tiles_ * kTileKeys),
        bytes_(shadow_tile_bytes(c.a.shadows.format, kDim)) {
    look_up(c, item);
    open(c, item);
  }

  /// Tiles of 16 keys that a place of the ring takes.
  __device__ int tiles() const { return tiles_; }

  __device__ void look_up(const Context& c, const Item& item) {
    if (item.work == Work::none) return;
    const int key = min(item.begin + first_ + key_of_lane(), item.end - 1);
    following_page_ = RowFinder(c.a.cache, item.request).page(key);
  }
  __device__ void open(const Context& c, const Item& item) {
    rows_ = RowFinder(c.a.cache, item.request);
    head_ = item.kv_head * c.a.shadows.head_stride;
    key_ = item.begin + first_;
    last_key_ = item.end - 1;
    tile_ = 0;
    place_ = place(c, following_page_);
  }

  __device__ bool more() const { return key_ <= last_key_; }
  /// Starts copying the next tiles and goes on to those that follow. By the whole warp.
  __device__ void issue(Context& c) {
    for (int i = 0; i < tiles_; ++i) {
      const std::int64_t from = __shfl_sync(kAllLanes, place_, tile_ + i);
      if (key_ + i * kTileKeys <= last_key_) {
        c.ring.copy_block(i * bytes_, static_cast<const char*>(c.a.shadows.tiles) + from, bytes_);
      }
    }
    c.ring.issue_nothing(c.groups);
    key_ += kBlockWarps * kTileKeys * tiles_;
    tile_ += tiles_;
    if (tile_ == kWarpThreads) {
      tile_ = 0;
      place_ = place(c, rows_.page(min(key_ + key_of_lane(), last_key_)));
    }
  }

  __device__ void load_query(const Context& c, const Item& item) {
    query_.load(static_cast<const T*>(c.a.query) + std::int64_t{c.first_head(item)} * kDim, c.group,
                c.a.shadows.format.order, c.at);
  }
  /// Products with the queries of tile `i` of a place of the ring.
  __device__ ScoreTile multiply(const Context& c, const char* stage, int i) const {
    const KeyShadowFormat& format = c.a.shadows.format;
    const char* tile = stage + i * bytes_;
    return format.code == ShadowCode::fp8
               ? estimate_fp8(query_, tile, c.at)
               : estimate_four_bits(query_, tile, static_cast<int>(format.block), c.at);
  }

 private:
  // From the warp's first key to that of the lane's tile.
  __device__ int key_of_lane() const {
    return (lane_ / tiles_ * kBlockWarps * tiles_ + lane_ % tiles_) * kTileKeys;
  }
  // Bytes from the first tile of all to the lane's, on `page`.
  __device__ std::int64_t place(const Context& c, int page) const {
    const int slot = rows_.slot(min(key_ + key_of_lane(), last_key_));
    return page * c.a.shadows.page_stride + head_ + std::int64_t{slot / kTileKeys} * bytes_;
  }

  int lane_;
  int tiles_;
  int first_;
  int bytes_;
  RowFinder rows_;
  std::int64_t head_;
  int key_;
  int last_key_;
  int tile_;  // among those whose places the lanes know
  int following_page_ = 0;
  std::int64_t place_;
  ShadowQuery<kDim, Context::kHeadTiles> query_;
};

}  // namespace sift::cuda
