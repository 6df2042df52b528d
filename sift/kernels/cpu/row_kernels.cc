#include "sift/kernels/cpu/row_kernels.h"

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

void multiply(int rows, int depth, int columns, ConstBlock a, ConstBlock b, Block c,
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

ScoreScan scan_scores(const float* scores, std::int64_t count) {
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

double sum_exp2(const float* scores, std::int64_t count, float maximum) {
  return exp2_pass<false>(const_cast<float*>(scores), count, maximum);
}

double replace_exp2(float* scores, std::int64_t count, float maximum) {
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

UnionCount select_keys(HeadSelection* heads, int group, std::int32_t visible,
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

void combine(const float* sums, float factor, const float* addend, float addend_factor, int count,
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

HWY_EXPORT(multiply);
HWY_EXPORT(scan_scores);
HWY_EXPORT(sum_exp2);
HWY_EXPORT(replace_exp2);
HWY_EXPORT(select_keys);
HWY_EXPORT(combine);

void multiply(int rows, int depth, int columns, ConstBlock a, ConstBlock b, Block c,
              bool accumulate) {
  HWY_DYNAMIC_DISPATCH(multiply)(rows, depth, columns, a, b, c, accumulate);
}

ScoreScan scan_scores(const float* scores, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(scan_scores)(scores, count);
}

double sum_exp2(const float* scores, std::int64_t count, float maximum) {
  return HWY_DYNAMIC_DISPATCH(sum_exp2)(scores, count, maximum);
}

double replace_exp2(float* scores, std::int64_t count, float maximum) {
  return HWY_DYNAMIC_DISPATCH(replace_exp2)(scores, count, maximum);
}

UnionCount select_keys(HeadSelection* heads, int group, std::int32_t visible,
                       std::int32_t forced_before, std::int32_t forced_from) {
  return HWY_DYNAMIC_DISPATCH(select_keys)(heads, group, visible, forced_before, forced_from);
}

void combine(const float* sums, float factor, const float* addend, float addend_factor, int count,
             float* out) {
  HWY_DYNAMIC_DISPATCH(combine)(sums, factor, addend, addend_factor, count, out);
}

}  // namespace sift::cpu
#endif  // HWY_ONCE
