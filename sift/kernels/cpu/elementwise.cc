#include "sift/kernels/cpu/elementwise.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sift/kernels/cpu/elementwise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After highway.h:
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

float sum_of_squares(const float* x, std::int64_t size) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    const auto a = hn::LoadU(d, x + i);
    const auto b = hn::LoadU(d, x + i + lanes);
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < size; ++i) total += x[i] * x[i];
  return total;
}

void rms_norm(const float* x, const float* weight, float epsilon, std::int64_t size, float* y) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const float mean_square = sum_of_squares(x, size) / static_cast<float>(size);
  const float scale = 1.0f / std::sqrt(mean_square + epsilon);
  const auto scales = hn::Set(d, scale);
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scales), hn::LoadU(d, weight + i)), d, y + i);
  }
  for (; i < size; ++i) y[i] = x[i] * scale * weight[i];
}

void silu_multiply(float* gate, const float* up, std::int64_t size) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto one = hn::Set(d, 1.0f);
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto x = hn::LoadU(d, gate + i);
    const auto sigmoid = hn::Div(one, hn::Add(one, hn::Exp(d, hn::Neg(x))));
    hn::StoreU(hn::Mul(hn::Mul(x, sigmoid), hn::LoadU(d, up + i)), d, gate + i);
  }
  for (; i < size; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

/// x [dimensions] turned in place, pairs (0, 1), (2, 3), …
void rotate_adjacent(const float* cosines, const float* sines, std::int64_t dimensions, float* x) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  if (lanes >= 2) {
    for (; i + lanes <= dimensions; i += lanes) {
      const auto value = hn::LoadU(d, x + i);
      const auto turned = hn::Mul(hn::Reverse2(d, value), hn::LoadU(d, sines + i));
      hn::StoreU(hn::MulAdd(value, hn::LoadU(d, cosines + i), turned), d, x + i);
    }
  }
  for (; i + 2 <= dimensions; i += 2) {
    const float first = x[i];
    const float second = x[i + 1];
    x[i] = first * cosines[i] + second * sines[i];
    x[i + 1] = second * cosines[i + 1] + first * sines[i + 1];
  }
}

}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sift::cpu {

HWY_EXPORT(rms_norm);
HWY_EXPORT(silu_multiply);
HWY_EXPORT(rotate_adjacent);

namespace {

/// x [dimensions] turned in place, pairs (i, i + dimensions / 2).
void rotate_halves(const float* cosines, const float* sines, std::int64_t dimensions, float* x) {
  const std::int64_t half = dimensions / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const float first = x[i];
    const float second = x[i + half];
    x[i] = first * cosines[i] + second * sines[i];
    x[i + half] = second * cosines[i + half] + first * sines[i + half];
  }
}

}  // namespace

void rms_norm(const float* x, const float* weight, float epsilon, std::int64_t size, float* y) {
  HWY_DYNAMIC_DISPATCH(rms_norm)(x, weight, epsilon, size, y);
}

void silu_multiply(float* gate, const float* up, std::int64_t size) {
  HWY_DYNAMIC_DISPATCH(silu_multiply)(gate, up, size);
}

void RotationTable::prepare(const Rope& rope, std::span<const std::int64_t> positions) {
  style_ = rope.style;
  const auto pairs = static_cast<std::int64_t>(rope.inverse_frequencies.size());
  dimensions_ = 2 * pairs;
  cosines_.ensure(positions.size() * static_cast<std::size_t>(dimensions_));
  sines_.ensure(positions.size() * static_cast<std::size_t>(dimensions_));
  for (std::size_t row = 0; row < positions.size(); ++row) {
    float* cosines = cosines_.data() + static_cast<std::int64_t>(row) * dimensions_;
    float* sines = sines_.data() + static_cast<std::int64_t>(row) * dimensions_;
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      const double angle =
          static_cast<double>(positions[row]) *
          static_cast<double>(rope.inverse_frequencies[static_cast<std::size_t>(pair)]);
      const bool adjacent = style_ == RopeStyle::adjacent_pairs;
      const std::int64_t first = adjacent ? 2 * pair : pair;
      const std::int64_t second = adjacent ? first + 1 : first + pairs;
      cosines[first] = cosines[second] = static_cast<float>(std::cos(angle));
      sines[second] = static_cast<float>(std::sin(angle));
      sines[first] = -sines[second];
    }
  }
}

void RotationTable::rotate(std::int64_t row, int heads, int head_dim, float* data) const {
  const float* cosines = cosines_.data() + row * dimensions_;
  const float* sines = sines_.data() + row * dimensions_;
  for (int head = 0; head < heads; ++head) {
    float* x = data + static_cast<std::int64_t>(head) * head_dim;
    if (style_ == RopeStyle::adjacent_pairs) {
      HWY_DYNAMIC_DISPATCH(rotate_adjacent)(cosines, sines, dimensions_, x);
    } else {
      rotate_halves(cosines, sines, dimensions_, x);
    }
  }
}

}  // namespace sift::cpu
#endif  // HWY_ONCE
