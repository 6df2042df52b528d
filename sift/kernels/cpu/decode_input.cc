#include "sift/kernels/cpu/decode_input.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "sift/core/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sift/kernels/cpu/decode_input.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sift/kernels/cpu/bfloat-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;

/// sums [blocks]: of 32 values each.
void sum_blocks(const float* values, std::int64_t blocks, float* sums) {
  const Floats df;
  for (std::int64_t b = 0; b < blocks; ++b) {
    auto sum = hn::Zero(df);
    for (std::size_t c = 0; c < kBlockColumns; c += hn::Lanes(df)) {
      sum = hn::Add(sum, hn::LoadU(df, values + b * kBlockColumns + c));
    }
    sums[b] = hn::GetLane(hn::SumOfLanes(df, sum));
  }
}

/// Rounds x [columns] to bfloat16: as floats in `rounded` unless that is null, in 2 bytes in
/// `pairs`.
void round_row(const float* x, std::int64_t columns, float* rounded, std::uint16_t* pairs) {
  const Floats df;
  const hn::RebindToUnsigned<Floats> du;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::uint16_t, Floats> d16;
  std::int64_t i = 0;
  for (; i + static_cast<std::int64_t>(hn::Lanes(df)) <= columns; i += hn::Lanes(df)) {
    const auto value = round_to_bfloat(df, hn::LoadU(df, x + i));
    if (rounded != nullptr) hn::StoreU(value, df, rounded + i);
    const auto high = hn::BitCast(di, hn::ShiftRight<16>(hn::BitCast(du, value)));
    hn::StoreU(hn::DemoteTo(d16, high), d16, pairs + i);
  }
  for (; i < columns; ++i) {
    const BFloat16 value(x[i]);
    if (rounded != nullptr) rounded[i] = static_cast<float>(value);
    pairs[i] = value.bits;
  }
}

/// The scale of 32 values: NaN when one is not finite.
HWY_INLINE float block_scale(const float* x) {
  const Floats df;
  auto largest = hn::Zero(df);
  auto poison = hn::Zero(df);  // x · 0 is NaN where x is not finite
  for (std::size_t c = 0; c < kBlockColumns; c += hn::Lanes(df)) {
    const auto v = hn::LoadU(df, x + c);
    largest = hn::Max(largest, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(df), poison);
  }
  const float not_a_number = hn::GetLane(hn::SumOfLanes(df, poison));
  if (not_a_number != 0.0F) return std::numeric_limits<float>::quiet_NaN();
  const float maximum = hn::GetLane(hn::MaxOfLanes(df, largest));
  return maximum < 0x1p-100F ? 0.0F : maximum / 127.0F;
}

/// codes [16] and their sum.
HWY_INLINE std::int32_t quantise_half(const float* x, float inverse, std::int8_t* codes) {
  const Floats df;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::int8_t, Floats> d8;
  auto sum = hn::Zero(di);
  for (std::size_t c = 0; c < 16; c += hn::Lanes(df)) {
    const auto code = hn::NearestInt(hn::Mul(hn::LoadU(df, x + c), hn::Set(df, inverse)));
    hn::StoreU(hn::DemoteTo(d8, code), d8, codes + c);
    sum = hn::Add(sum, code);
  }
  return hn::GetLane(hn::SumOfLanes(di, sum));
}

void quantise_blocks(const float* values, std::int64_t blocks, std::int8_t* codes, float* scales,
                     std::int32_t* code_sums, float* scaled_sums) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    const float* x = values + b * kBlockColumns;
    std::int8_t* block_codes = codes + b * kBlockColumns;
    const float scale = block_scale(x);
    scales[b] = scale;
    if (!(scale > 0)) {  // zeros, or a NaN scale that makes every sum NaN
      std::memset(block_codes, 0, kBlockColumns);
      code_sums[2 * b] = code_sums[2 * b + 1] = 0;
      scaled_sums[b] = scale;
      continue;
    }
    const float inverse = 1.0F / scale;
    code_sums[2 * b] = quantise_half(x, inverse, block_codes);
    code_sums[2 * b + 1] = quantise_half(x + 16, inverse, block_codes + 16);
    scaled_sums[b] = scale * static_cast<float>(code_sums[2 * b] + code_sums[2 * b + 1]);
  }
}

}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sift::cpu {

HWY_EXPORT(sum_blocks);
HWY_EXPORT(round_row);
HWY_EXPORT(quantise_blocks);

void DecodeInputBuffer::ensure(std::int64_t rows, std::int64_t blocks, Compute compute) {
  const auto count = static_cast<std::size_t>(rows * blocks);
  values_.ensure(count * kBlockColumns);
  sums_.ensure(count);
  if (compute == Compute::bf16) pairs_.ensure(count * kBlockColumns);
  if (compute == Compute::q8) {
    codes_.ensure(count * kBlockColumns);
    scales_.ensure(count);
    code_sums_.ensure(2 * count);
    scaled_sums_.ensure(count);
  }
  input_ = {rows,          blocks,         values_.data(),    sums_.data(),       pairs_.data(),
            codes_.data(), scales_.data(), code_sums_.data(), scaled_sums_.data()};
}

const DecodeInput& DecodeInputBuffer::prepare(const float* x, std::int64_t rows,
                                              std::int64_t columns, Compute compute) {
  const std::int64_t blocks = (columns + kBlockColumns - 1) / kBlockColumns;
  ensure(rows, blocks, compute);
  const std::int64_t padded = blocks * kBlockColumns;
  for (std::int64_t row = 0; row < rows; ++row) {
    float* to = values_.data() + row * padded;
    std::copy_n(x + row * columns, columns, to);
    std::fill(to + columns, to + padded, 0.0F);
  }
  const std::int64_t count = rows * blocks;
  switch (compute) {
    case Compute::f32:
      HWY_DYNAMIC_DISPATCH(sum_blocks)(values_.data(), count, sums_.data());
      break;
    case Compute::bf16:
      HWY_DYNAMIC_DISPATCH(round_row)
      (values_.data(), count * kBlockColumns, values_.data(), pairs_.data());
      break;
    case Compute::q8:
      HWY_DYNAMIC_DISPATCH(sum_blocks)(values_.data(), count, sums_.data());
      HWY_DYNAMIC_DISPATCH(quantise_blocks)
      (values_.data(), count, codes_.data(), scales_.data(), code_sums_.data(),
       scaled_sums_.data());
      break;
  }
  return input_;
}

void round_rows(const float* x, std::int64_t rows, std::int64_t columns, std::uint16_t* out,
                int threads) {
  const std::int64_t padded = (columns + kBlockColumns - 1) / kBlockColumns * kBlockColumns;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t row = 0; row < rows; ++row) {
    std::uint16_t* to = out + row * padded;
    HWY_DYNAMIC_DISPATCH(round_row)(x + row * columns, columns, nullptr, to);
    std::fill(to + columns, to + padded, std::uint16_t{0});
  }
}

}  // namespace sift::cpu
#endif
