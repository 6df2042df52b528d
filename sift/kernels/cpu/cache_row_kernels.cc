#include "sift/kernels/cpu/cache_row_kernels.h"

#include <cstdint>
#include <cstring>

#include "sift/core/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sift/kernels/cpu/cache_row_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::CappedTag<float, 16>;

// Plain types: `load(i)` gives Lanes floats from index i, `one(i)` a single one.
template <class LoadVector, class LoadOne>
HWY_INLINE void expand_row(int dim, LoadVector load, LoadOne one, float* destination) {
  const FloatTag d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  int i = 0;
  for (; i + lanes <= dim; i += lanes) hn::StoreU(load(i), d, destination + i);
  for (; i < dim; ++i) destination[i] = one(i);
}

HWY_INLINE float half_to_float(const std::byte* source) {
  Half half{};
  std::memcpy(&half, source, sizeof(half));
  return static_cast<float>(half);
}

HWY_INLINE void expand_f32(const std::byte* row, int dim, float* destination) {
  std::memcpy(destination, row, static_cast<std::size_t>(dim) * sizeof(float));
}

HWY_INLINE void expand_f16(const std::byte* row, int dim, float* destination) {
  const FloatTag d;
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
  const auto* halves = reinterpret_cast<const hwy::float16_t*>(row);
  expand_row(
      dim, [&](int i) { return hn::PromoteTo(d, hn::LoadU(dh, halves + i)); },
      [&](int i) { return half_to_float(row + 2 * i); }, destination);
}

HWY_INLINE void expand_bf16(const std::byte* row, int dim, float* destination) {
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::Rebind<std::uint16_t, FloatTag> dh;
  const auto* words = reinterpret_cast<const std::uint16_t*>(row);
  const auto upper = [&](auto word) { return hn::BitCast(d, hn::ShiftLeft<16>(word)); };
  expand_row(
      dim, [&](int i) { return upper(hn::PromoteTo(du, hn::LoadU(dh, words + i))); },
      [&](int i) { return hn::GetLane(upper(hn::Set(du, words[i]))); }, destination);
}

constexpr int kQ8Values = 32;
constexpr int kQ8Bytes = 34;  // a half, then 32 signed bytes

HWY_INLINE void expand_q8_0(const std::byte* row, int dim, float* destination) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const hn::Rebind<std::int8_t, FloatTag> db;
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < dim; i += kQ8Values) {
    const auto scale = hn::Set(d, half_to_float(row));
    const auto* bytes = reinterpret_cast<const std::int8_t*>(row + 2);
    for (int j = 0; j < kQ8Values; j += lanes) {
      const auto values = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(db, bytes + j)));
      hn::StoreU(hn::Mul(scale, values), d, destination + i + j);
    }
    row += kQ8Bytes;
  }
}

HWY_INLINE std::size_t bytes_of_row(DType type, int dim) {
  const auto count = static_cast<std::size_t>(dim);
  if (type == DType::f32) return 4 * count;
  return type == DType::q8_0 ? count / kQ8Values * kQ8Bytes : 2 * count;
}

void expand_rows(DType type, const std::byte* rows, int count, int dim, float* destination,
                 std::size_t stride) {
  const std::size_t bytes = bytes_of_row(type, dim);
  for (int row = 0; row < count; ++row, rows += bytes, destination += stride) {
    if (type == DType::f16) {
      expand_f16(rows, dim, destination);
    } else if (type == DType::bf16) {
      expand_bf16(rows, dim, destination);
    } else if (type == DType::q8_0) {
      expand_q8_0(rows, dim, destination);
    } else {
      expand_f32(rows, dim, destination);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
// Transposes 4 × 4 values, rows `stride` apart on both sides.
HWY_INLINE void transpose_quad(const float* source, std::size_t source_stride, float* destination,
                               std::size_t stride) {
  const hn::FixedTag<float, 4> d;
  const hn::RepartitionToWide<decltype(d)> dw;
  const auto r0 = hn::LoadU(d, source);
  const auto r1 = hn::LoadU(d, source + source_stride);
  const auto r2 = hn::LoadU(d, source + 2 * source_stride);
  const auto r3 = hn::LoadU(d, source + 3 * source_stride);
  const auto p0 = hn::BitCast(dw, hn::InterleaveLower(d, r0, r1));  // r0.0 r1.0 r0.1 r1.1
  const auto p1 = hn::BitCast(dw, hn::InterleaveLower(d, r2, r3));
  const auto p2 = hn::BitCast(dw, hn::InterleaveUpper(d, r0, r1));
  const auto p3 = hn::BitCast(dw, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, p0, p1)), d, destination);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, p0, p1)), d, destination + stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, p2, p3)), d, destination + 2 * stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, p2, p3)), d, destination + 3 * stride);
}
#endif

void transpose(const float* source, int rows, int dim, float* destination, std::size_t stride) {
#if HWY_TARGET == HWY_SCALAR
  const int whole_rows = 0;
  const int whole_columns = 0;
#else
  const int whole_rows = rows / 4 * 4;
  const int whole_columns = dim / 4 * 4;
  for (int row = 0; row < whole_rows; row += 4) {
    for (int column = 0; column < whole_columns; column += 4) {
      transpose_quad(source + row * dim + column, static_cast<std::size_t>(dim),
                     destination + column * stride + row, stride);
    }
  }
#endif
  for (int row = 0; row < rows; ++row) {
    for (int column = row < whole_rows ? whole_columns : 0; column < dim; ++column) {
      destination[column * stride + row] = source[row * dim + column];
    }
  }
}

HWY_INLINE void store_f16(const float* source, int dim, std::byte* row) {
  const FloatTag d;
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
  const int lanes = static_cast<int>(hn::Lanes(d));
  auto* halves = reinterpret_cast<hwy::float16_t*>(row);
  int i = 0;
  for (; i + lanes <= dim; i += lanes) {
    hn::StoreU(hn::DemoteTo(dh, hn::LoadU(d, source + i)), dh, halves + i);
  }
  if (i == dim) return;
  HWY_ALIGN float rest[16] = {};
  HWY_ALIGN hwy::float16_t stored[16];
  for (int j = i; j < dim; ++j) rest[j - i] = source[j];
  hn::Store(hn::DemoteTo(dh, hn::Load(d, rest)), dh, stored);
  for (int j = i; j < dim; ++j) halves[j] = stored[j - i];
}

HWY_INLINE void store_bf16(const float* source, int dim, std::byte* row) {
  for (int i = 0; i < dim; ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, source + i, 4);
    const bool is_nan = (word & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t rounded = (word + 0x7fffU + ((word >> 16) & 1U)) >> 16;
    const auto upper = static_cast<std::uint16_t>(is_nan ? (word >> 16) | 0x40U : rounded);
    std::memcpy(row + 2 * i, &upper, 2);
  }
}

// 32 values as a half scale and 32 bytes; a block that is not finite gets NaN as its scale.
HWY_INLINE void store_q8_0_block(const float* source, std::byte* block) {
  const FloatTag d;
  const hn::Rebind<std::int8_t, FloatTag> db;
  const int lanes = static_cast<int>(hn::Lanes(d));
  auto highest = hn::Zero(d);
  auto finite = hn::Eq(highest, highest);
  for (int i = 0; i < kQ8Values; i += lanes) {
    const auto magnitude = hn::Abs(hn::LoadU(d, source + i));
    finite = hn::And(finite, hn::Lt(magnitude, hn::Set(d, hwy::HighestValue<float>() * 2)));
    highest = hn::Max(highest, magnitude);
  }
  const bool all_finite = hn::AllTrue(d, finite);
  const float scale = hn::GetLane(hn::MaxOfLanes(d, highest)) / 127.0F;
  const hn::CappedTag<float, 4> d4;
  const hn::Rebind<hwy::float16_t, decltype(d4)> dh4;
  HWY_ALIGN hwy::float16_t halves[4];
  hn::Store(hn::DemoteTo(dh4, hn::Set(d4, all_finite ? scale : __builtin_nanf(""))), dh4, halves);
  std::memcpy(block, halves, 2);
  std::uint16_t bits = 0;
  std::memcpy(&bits, halves, 2);
  const float inverse = !all_finite || bits == 0 ? 0.0F : 1.0F / scale;
  for (int i = 0; i < kQ8Values; i += lanes) {
    const auto zero_or_value = all_finite ? hn::LoadU(d, source + i) : hn::Zero(d);
    const auto whole = hn::NearestInt(hn::Mul(zero_or_value, hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(db, whole), db, reinterpret_cast<std::int8_t*>(block + 2 + i));
  }
}

void store_row(DType type, const float* source, int dim, std::byte* row) {
  if (type == DType::f16) return store_f16(source, dim, row);
  if (type == DType::bf16) return store_bf16(source, dim, row);
  if (type != DType::q8_0) {
    std::memcpy(row, source, static_cast<std::size_t>(dim) * sizeof(float));
    return;
  }
  for (int i = 0; i < dim; i += kQ8Values, row += kQ8Bytes) store_q8_0_block(source + i, row);
}

void add_to_sums(const float* values, int count, double* sums) {
  for (int i = 0; i < count; ++i) sums[i] += static_cast<double>(values[i]);
}

}  // namespace
}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sift::cpu {

HWY_EXPORT(expand_rows);
HWY_EXPORT(transpose);
HWY_EXPORT(store_row);
HWY_EXPORT(add_to_sums);

void expand_rows(DType type, const std::byte* rows, int count, int dim, float* destination,
                 std::size_t stride) {
  HWY_DYNAMIC_DISPATCH(expand_rows)(type, rows, count, dim, destination, stride);
}

void transpose(const float* source, int rows, int dim, float* destination, std::size_t stride) {
  HWY_DYNAMIC_DISPATCH(transpose)(source, rows, dim, destination, stride);
}

void store_row(DType type, const float* source, int dim, std::byte* row) {
  HWY_DYNAMIC_DISPATCH(store_row)(type, source, dim, row);
}

void add_to_sums(const float* values, int count, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_to_sums)(values, count, sums);
}

}  // namespace sift::cpu
#endif  // HWY_ONCE
