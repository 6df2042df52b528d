#pragma once

#include <cstdint>

#include "sift/kernels/cuda/device_primitives.cuh"

namespace sift::cuda {

// The image of a float is an unsigned number in the same order: of two floats that are not NaN, the
// greater one has the greater image. NaNs lie beyond both infinities.

__device__ inline std::uint32_t image_of(float score) {
  const std::uint32_t bits = __float_as_uint(score);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

__device__ inline float score_of(std::uint32_t image) {
  return __uint_as_float((image & 0x80000000U) != 0 ? image & 0x7fffffffU : ~image);
}

inline constexpr std::uint32_t kInfinityImage = 0xff800000U;  ///< of +∞

/// Images from `low` to `low + span`.
struct ImageRange {
  std::uint32_t low = 0;
  std::uint32_t span = 0xffffffffU;
};

/// Equal bins over the last kRange powers of two below a log-sum-exp (base 2). Probabilities below
/// are too small to matter, but not left out: they fall into bin 0.
template <int kBins>
class CoarseBins {
 public:
  CoarseBins() = default;
  __device__ explicit CoarseBins(float log_sum_exp) : bias_((kRange - log_sum_exp) * kScale) {}

  /// Never falls as the score grows. NaN has bin 0.
  __device__ std::uint32_t bin(float score) const {
    return min(__float2uint_rz(fmaf(score, kScale, bias_)), kBins - 1U);
  }

  /// The images whose bin is `bin`. Called by all lanes of a warp.
  __device__ ImageRange range(std::uint32_t bin) const {
    const std::uint32_t low = first_image(bin);
    return {low, first_image(bin + 1) - 1 - low};
  }

 private:
  static constexpr float kRange = 64;
  static constexpr float kScale = kBins / kRange;

  // The smallest image whose bin is at least `wanted`, found five bits at a time: rounding decides
  // where bins meet, so bin() itself is asked.
  __device__ std::uint32_t first_image(std::uint32_t wanted) const {
    if (wanted == 0) return 0;
    if (wanted == kBins) return kInfinityImage + 1;
    const std::uint32_t lane = threadIdx.x % kWarpThreads;
    std::uint32_t below = 0;  // the largest image known to have a smaller bin
    for (int shift = 27; shift > -5; shift -= 5) {
      const std::uint32_t step = shift < 0 ? lane >> -shift : lane << shift;
      const std::uint32_t image = below + step;
      const bool smaller = image <= kInfinityImage && bin(score_of(image)) < wanted;
      below = __shfl_sync(kAllLanes, image, __popc(__ballot_sync(kAllLanes, smaller)) - 1);
    }
    return below + 1;
  }

  float bias_ = 0;
};

/// Equal bins over a range of images, as many as needed for kBins to cover it.
template <int kBins>
class FineBins {
 public:
  FineBins() = default;
  __device__ explicit FineBins(const ImageRange& range) {
    range_ = range;
    shift_ = max(0, 32 - __clz(static_cast<int>(range.span)) - kLog2Bins);
  }

  __device__ bool covers(std::uint32_t image) const { return image - range_.low <= range_.span; }
  __device__ std::uint32_t bin(std::uint32_t image) const { return (image - range_.low) >> shift_; }
  __device__ ImageRange range(std::uint32_t bin) const {
    const std::uint32_t begin = bin << shift_;
    return {range_.low + begin, min((1U << shift_) - 1, range_.span - begin)};
  }

 private:
  static constexpr int kLog2Bins = kBins == 2048 ? 11 : 10;
  static_assert(1 << kLog2Bins == kBins);

  ImageRange range_;
  int shift_ = 0;
};

}  // namespace sift::cuda
