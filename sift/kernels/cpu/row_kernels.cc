#include "sift/kernels/cpu/row_kernels.h"

#include <cstring>

#include "sift/core/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sift/kernels/cpu/row_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sift/kernels/cpu/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace {

// Kernels work on at most 16 lanes: kColumnMultiple is two vectors.
using FloatTag = hn::CappedTag<float, 16>;

// Σ over at most this many keys stays in float.
constexpr std::int64_t kFloatSumKeys = 1024;

// Four rows of c, two vectors wide.
HWY_INLINE void multiply_tile(int depth, const float* a, std::size_t a_stride, const float* b,
                              std::size_t b_stride, float* c, std::size_t c_stride,
                              bool accumulate) {
  const FloatTag d;
  const std::size_t lanes = hn::Lanes(d);
  auto c00 = hn::Zero(d), c01 = c00, c10 = c00, c11 = c00;
  auto c20 = c00, c21 = c00, c30 = c00, c31 = c00;
  float* const c1 = c + c_stride;
  float* const c2 = c1 + c_stride;
  float* const c3 = c2 + c_stride;
  if (accumulate) {
    c00 = hn::Load(d, c), c01 = hn::Load(d, c + lanes);
    c10 = hn::Load(d, c1), c11 = hn::Load(d, c1 + lanes);
    c20 = hn::Load(d, c2), c21 = hn::Load(d, c2 + lanes);
    c30 = hn::Load(d, c3), c31 = hn::Load(d, c3 + lanes);
  }
  for (int k = 0; k < depth; ++k) {
    const auto b0 = hn::Load(d, b);
    const auto b1 = hn::Load(d, b + lanes);
    const auto a0 = hn::Set(d, a[k]);
    const auto a1 = hn::Set(d, a[a_stride + k]);
    const auto a2 = hn::Set(d, a[2 * a_stride + k]);
    const auto a3 = hn::Set(d, a[3 * a_stride + k]);
    c00 = hn::MulAdd(a0, b0, c00), c01 = hn::MulAdd(a0, b1, c01);
    c10 = hn::MulAdd(a1, b0, c10), c11 = hn::MulAdd(a1, b1, c11);
    c20 = hn::MulAdd(a2, b0, c20), c21 = hn::MulAdd(a2, b1, c21);
    c30 = hn::MulAdd(a3, b0, c30), c31 = hn::MulAdd(a3, b1, c31);
    b += b_stride;
  }
  hn::Store(c00, d, c), hn::Store(c01, d, c + lanes);
  hn::Store(c10, d, c1), hn::Store(c11, d, c1 + lanes);
  hn::Store(c20, d, c2), hn::Store(c21, d, c2 + lanes);
  hn::Store(c30, d, c3), hn::Store(c31, d, c3 + lanes);
}

// Four rows of c, four vectors wide: each loaded value serves four products.
HWY_INLINE void multiply_wide_tile(int depth, const float* a, std::size_t a_stride, const float* b,
                                   std::size_t b_stride, float* c, std::size_t c_stride,
                                   bool accumulate) {
  const FloatTag d;
  const std::size_t n = hn::Lanes(d);
  auto c00 = hn::Zero(d), c01 = c00, c02 = c00, c03 = c00;
  auto c10 = c00, c11 = c00, c12 = c00, c13 = c00;
  auto c20 = c00, c21 = c00, c22 = c00, c23 = c00;
  auto c30 = c00, c31 = c00, c32 = c00, c33 = c00;
  float* const c1 = c + c_stride;
  float* const c2 = c1 + c_stride;
  float* const c3 = c2 + c_stride;
  if (accumulate) {
    c00 = hn::Load(d, c), c01 = hn::Load(d, c + n);
    c02 = hn::Load(d, c + 2 * n), c03 = hn::Load(d, c + 3 * n);
    c10 = hn::Load(d, c1), c11 = hn::Load(d, c1 + n);
    c12 = hn::Load(d, c1 + 2 * n), c13 = hn::Load(d, c1 + 3 * n);
    c20 = hn::Load(d, c2), c21 = hn::Load(d, c2 + n);
    c22 = hn::Load(d, c2 + 2 * n), c23 = hn::Load(d, c2 + 3 * n);
    c30 = hn::Load(d, c3), c31 = hn::Load(d, c3 + n);
    c32 = hn::Load(d, c3 + 2 * n), c33 = hn::Load(d, c3 + 3 * n);
  }
  for (int k = 0; k < depth; ++k, b += b_stride) {
    const auto b0 = hn::Load(d, b), b1 = hn::Load(d, b + n);
    const auto b2 = hn::Load(d, b + 2 * n), b3 = hn::Load(d, b + 3 * n);
    const auto a0 = hn::Set(d, a[k]);
    c00 = hn::MulAdd(a0, b0, c00), c01 = hn::MulAdd(a0, b1, c01);
    c02 = hn::MulAdd(a0, b2, c02), c03 = hn::MulAdd(a0, b3, c03);
    const auto a1 = hn::Set(d, a[a_stride + k]);
    c10 = hn::MulAdd(a1, b0, c10), c11 = hn::MulAdd(a1, b1, c11);
    c12 = hn::MulAdd(a1, b2, c12), c13 = hn::MulAdd(a1, b3, c13);
    const auto a2 = hn::Set(d, a[2 * a_stride + k]);
    c20 = hn::MulAdd(a2, b0, c20), c21 = hn::MulAdd(a2, b1, c21);
    c22 = hn::MulAdd(a2, b2, c22), c23 = hn::MulAdd(a2, b3, c23);
    const auto a3 = hn::Set(d, a[3 * a_stride + k]);
    c30 = hn::MulAdd(a3, b0, c30), c31 = hn::MulAdd(a3, b1, c31);
    c32 = hn::MulAdd(a3, b2, c32), c33 = hn::MulAdd(a3, b3, c33);
  }
  hn::Store(c00, d, c), hn::Store(c01, d, c + n);
  hn::Store(c02, d, c + 2 * n), hn::Store(c03, d, c + 3 * n);
  hn::Store(c10, d, c1), hn::Store(c11, d, c1 + n);
  hn::Store(c12, d, c1 + 2 * n), hn::Store(c13, d, c1 + 3 * n);
  hn::Store(c20, d, c2), hn::Store(c21, d, c2 + n);
  hn::Store(c22, d, c2 + 2 * n), hn::Store(c23, d, c2 + 3 * n);
  hn::Store(c30, d, c3), hn::Store(c31, d, c3 + n);
  hn::Store(c32, d, c3 + 2 * n), hn::Store(c33, d, c3 + 3 * n);
}

void Multiply(int rows, int depth, int columns, ConstBlock a, ConstBlock b, Block c,
              bool accumulate) {
  const int pair = static_cast<int>(2 * hn::Lanes(FloatTag()));
  // Targets with fewer than 32 registers of full width keep to the narrow tile.
  const bool wide_tiles = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL;
  for (int column = 0; column < columns;) {
    const bool wide = wide_tiles && column + 2 * pair <= columns;
    for (int row = 0; row < rows; row += kRowsTogether) {
      (wide ? multiply_wide_tile : multiply_tile)(
          depth, a.data + row * a.stride, a.stride, b.data + column, b.stride,
          c.data + row * c.stride + column, c.stride, accumulate);
    }
    column += wide ? 2 * pair : pair;
  }
}

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

void ExpandRows(DType type, const std::byte* rows, int count, int dim, float* destination,
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

void Transpose(const float* source, int rows, int dim, float* destination, std::size_t stride) {
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

void StoreRow(DType type, const float* source, int dim, std::byte* row) {
  if (type == DType::f16) return store_f16(source, dim, row);
  if (type == DType::bf16) return store_bf16(source, dim, row);
  if (type != DType::q8_0) {
    std::memcpy(row, source, static_cast<std::size_t>(dim) * sizeof(float));
    return;
  }
  for (int i = 0; i < dim; i += kQ8Values, row += kQ8Bytes) store_q8_0_block(source + i, row);
}

void AddToSums(const float* values, int count, double* sums) {
  for (int i = 0; i < count; ++i) sums[i] += static_cast<double>(values[i]);
}

ScoreScan ScanScores(const float* scores, std::int64_t count) {
  const FloatTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto infinity = hn::Inf(d);
  auto highest = hn::Neg(infinity);
  auto valid = hn::Eq(highest, highest);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto score = hn::LoadU(d, scores + i);
    highest = hn::Max(highest, score);
    valid = hn::And(valid, hn::Lt(score, infinity));
  }
  ScoreScan scan{hn::GetLane(hn::MaxOfLanes(d, highest)), !hn::AllTrue(d, valid)};
  for (; i < count; ++i) {
    if (!(scores[i] < hn::GetLane(infinity))) scan.invalid = true;
    if (scores[i] > scan.maximum) scan.maximum = scores[i];
  }
  return scan;
}

template <bool kReplace>
HWY_INLINE double exp2_pass(float* scores, std::int64_t count, float maximum) {
  const FloatTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto top = hn::Set(d, maximum);
  const hn::RebindToSigned<FloatTag> di;
  double total = 0;
  for (std::int64_t begin = 0; begin < count; begin += kFloatSumKeys) {
    const std::int64_t end = begin + kFloatSumKeys < count ? begin + kFloatSumKeys : count;
    auto sum = hn::Zero(d);
    std::int64_t i = begin;
    for (; i + lanes <= end; i += lanes) {
      const auto power = exp2(d, hn::Sub(hn::LoadU(d, scores + i), top));
      if (kReplace) hn::StoreU(power, d, scores + i);
      sum = hn::Add(sum, power);
    }
    if (i < end) {  // scores are padded, so whole vectors may be read
      const auto last = hn::Lt(hn::Iota(di, 0), hn::Set(di, static_cast<std::int32_t>(end - i)));
      const auto power = hn::IfThenElseZero(hn::RebindMask(d, last),
                                            exp2(d, hn::Sub(hn::LoadU(d, scores + i), top)));
      if (kReplace) hn::StoreU(power, d, scores + i);
      sum = hn::Add(sum, power);
    }
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  }
  return total;
}

double SumExp2(const float* scores, std::int64_t count, float maximum) {
  return exp2_pass<false>(const_cast<float*>(scores), count, maximum);
}

double ReplaceExp2(float* scores, std::int64_t count, float maximum) {
  return exp2_pass<true>(scores, count, maximum);
}

HWY_INLINE void flush_partial_sums(HeadSelection* heads, int group) {
  const FloatTag d;
  for (int g = 0; g < group; ++g) {
    const auto sum = hn::SumOfLanes(d, hn::Load(d, heads[g].partial_sums));
    heads[g].kept_sum += static_cast<double>(hn::GetLane(sum));
    hn::Store(hn::Zero(d), d, heads[g].partial_sums);
  }
}

UnionCount SelectKeys(HeadSelection* heads, int group, std::int32_t visible,
                      std::int32_t forced_before, std::int32_t forced_from) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const auto lanes = static_cast<std::int32_t>(hn::Lanes(d));
  const auto before = hn::Set(di, forced_before);
  const auto from = hn::Set(di, forced_from - 1);
  const auto end_of_row = hn::Set(di, visible);
  UnionCount count;
  for (std::int32_t i = 0; i < visible; i += lanes) {
    if (i % kFloatSumKeys == 0) flush_partial_sums(heads, group);
    const auto index = hn::Iota(di, i);
    const auto in_row = hn::Lt(index, end_of_row);
    const auto forced = hn::And(in_row, hn::Or(hn::Lt(index, before), hn::Gt(index, from)));
    auto any = hn::Lt(index, index);  // none yet
    for (int g = 0; g < group; ++g) {
      HeadSelection& head = heads[g];
      const auto score = hn::LoadU(d, head.scores + i);
      const auto passes = hn::RebindMask(di, hn::Gt(score, hn::Set(d, head.limit)));
      const auto chosen = hn::Or(passes, hn::Eq(index, hn::Set(di, head.only)));
      const auto kept = hn::Or(forced, hn::And(in_row, chosen));
      if (hn::AllFalse(di, kept)) {
        hn::StoreU(hn::Zero(d), d, head.scores + i);
        continue;
      }
      const auto power = hn::IfThenElseZero(hn::RebindMask(d, kept),
                                            exp2(d, hn::Sub(score, hn::Set(d, head.maximum))));
      hn::StoreU(power, d, head.scores + i);
      const auto partial = hn::Add(hn::Load(d, head.partial_sums), power);
      hn::Store(partial, d, head.partial_sums);
      head.kept += static_cast<std::int64_t>(hn::CountTrue(di, kept));
      head.kept_eligible += static_cast<std::int64_t>(hn::CountTrue(di, hn::AndNot(forced, kept)));
      any = hn::Or(any, kept);
    }
    count.rows += static_cast<std::int64_t>(hn::CountTrue(di, any));
    count.eligible += static_cast<std::int64_t>(hn::CountTrue(di, hn::AndNot(forced, any)));
  }
  flush_partial_sums(heads, group);
  return count;
}

void Combine(const float* sums, float factor, const float* addend, float addend_factor, int count,
             float* out) {
  for (int i = 0; i < count; ++i) out[i] = sums[i] * factor;
  if (addend == nullptr) return;
  for (int i = 0; i < count; ++i) out[i] += addend[i] * addend_factor;
}

}  // namespace
}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sift::cpu {

HWY_EXPORT(Multiply);
HWY_EXPORT(ExpandRows);
HWY_EXPORT(Transpose);
HWY_EXPORT(StoreRow);
HWY_EXPORT(AddToSums);
HWY_EXPORT(ScanScores);
HWY_EXPORT(SumExp2);
HWY_EXPORT(ReplaceExp2);
HWY_EXPORT(SelectKeys);
HWY_EXPORT(Combine);

void multiply(int rows, int depth, int columns, ConstBlock a, ConstBlock b, Block c,
              bool accumulate) {
  HWY_DYNAMIC_DISPATCH(Multiply)(rows, depth, columns, a, b, c, accumulate);
}

void expand_rows(DType type, const std::byte* rows, int count, int dim, float* destination,
                 std::size_t stride) {
  HWY_DYNAMIC_DISPATCH(ExpandRows)(type, rows, count, dim, destination, stride);
}

void transpose(const float* source, int rows, int dim, float* destination, std::size_t stride) {
  HWY_DYNAMIC_DISPATCH(Transpose)(source, rows, dim, destination, stride);
}

void store_row(DType type, const float* source, int dim, std::byte* row) {
  HWY_DYNAMIC_DISPATCH(StoreRow)(type, source, dim, row);
}

void add_to_sums(const float* values, int count, double* sums) {
  HWY_DYNAMIC_DISPATCH(AddToSums)(values, count, sums);
}

ScoreScan scan_scores(const float* scores, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(ScanScores)(scores, count);
}

double sum_exp2(const float* scores, std::int64_t count, float maximum) {
  return HWY_DYNAMIC_DISPATCH(SumExp2)(scores, count, maximum);
}

double replace_exp2(float* scores, std::int64_t count, float maximum) {
  return HWY_DYNAMIC_DISPATCH(ReplaceExp2)(scores, count, maximum);
}

UnionCount select_keys(HeadSelection* heads, int group, std::int32_t visible,
                       std::int32_t forced_before, std::int32_t forced_from) {
  return HWY_DYNAMIC_DISPATCH(SelectKeys)(heads, group, visible, forced_before, forced_from);
}

void combine(const float* sums, float factor, const float* addend, float addend_factor, int count,
             float* out) {
  HWY_DYNAMIC_DISPATCH(Combine)(sums, factor, addend, addend_factor, count, out);
}

}  // namespace sift::cpu
#endif  // HWY_ONCE
