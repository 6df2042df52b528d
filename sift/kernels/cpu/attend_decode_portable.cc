// Decode attention for any processor: Highway compiles this file once per instruction set and picks
// the best one at run time.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sift/kernels/cpu/attend_decode_portable.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "sift/core/half.h"
#include "sift/kernels/cpu/attend_decode_kernels.h"
#include "sift/kernels/cpu/exp2-inl.h"
#include "sift/kernels/cpu/instruction_set.h"

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, so that vectors divide blocks of 16.
using FloatTag = hn::CappedTag<float, kBlockKeys>;
using Float = hn::Vec<FloatTag>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int lanes() { return static_cast<int>(hn::Lanes(FloatTag())); }

// How Lanes values from column `column` of a cache row, or of a shadow of one, become floats.
struct LoadF32 {
  static Float load(const std::byte* row, int column, int) {
    return hn::LoadU(FloatTag(), reinterpret_cast<const float*>(row) + column);
  }
};

struct LoadF16 {
  static Float load(const std::byte* row, int column, int) {
    const hn::Rebind<hwy::float16_t, FloatTag> tag;
    return hn::PromoteTo(FloatTag(),
                         hn::LoadU(tag, reinterpret_cast<const hwy::float16_t*>(row) + column));
  }
};

struct LoadBF16 {
  static Float load(const std::byte* row, int column, int) {
    const hn::Rebind<hwy::bfloat16_t, FloatTag> tag;
    return hn::PromoteTo(FloatTag(),
                         hn::LoadU(tag, reinterpret_cast<const hwy::bfloat16_t*>(row) + column));
  }
};

struct LoadQ8 {
  static Float load(const std::byte* row, int column, int) {
    constexpr int kBlockValues = 32;
    constexpr int kBlockBytes = 34;  // a half, then 32 signed bytes
    const std::byte* block = row + column / kBlockValues * kBlockBytes;
    Half scale;
    std::memcpy(&scale, block, sizeof(scale));
    const hn::Rebind<std::int8_t, FloatTag> bytes;
    const hn::Rebind<std::int32_t, FloatTag> words;
    const auto* first = reinterpret_cast<const std::int8_t*>(block + 2) + column % kBlockValues;
    const Float values = hn::ConvertTo(FloatTag(), hn::PromoteTo(words, hn::LoadU(bytes, first)));
    return hn::Mul(values, hn::Set(FloatTag(), static_cast<float>(scale)));
  }
};

// Scale (part 0) or zero (part 1) of the values whose codes lie in Lanes bytes from `byte` on.
template <int kBlock>
Float shadow_part(const std::byte* scales, int byte, int part) {
  const auto value = [&](int block) {
    Half half;
    std::memcpy(&half, scales + (2 * block + part) * 2, sizeof(half));
    return hn::Set(FloatTag(), static_cast<float>(half));
  };
  const int first = 2 * byte / kBlock;
  const int last = 2 * (byte + lanes() - 1) / kBlock;
  if (first == last) return value(first);
  return hn::IfThenElse(hn::FirstN(FloatTag(), kBlock / 2), value(first), value(last));
}

// Columns 0 to 15 of 32 are the even values, in the low halves of 16 bytes, then come the odd ones.
template <int kBlock>
struct LoadShadow4 {
  static Float load(const std::byte* row, int column, int head_dim) {
    const int byte = column / 32 * 16 + column % 16;
    const hn::Rebind<std::uint8_t, FloatTag> bytes;
    const hn::Rebind<std::int32_t, FloatTag> words;
    const auto* first = reinterpret_cast<const std::uint8_t*>(row) + byte;
    const auto both = hn::PromoteTo(words, hn::LoadU(bytes, first));
    const auto codes =
        column % 32 < 16 ? hn::And(both, hn::Set(words, 15)) : hn::ShiftRight<4>(both);
    const std::byte* scales = row + head_dim / 2;
    return hn::MulAdd(hn::ConvertTo(FloatTag(), codes), shadow_part<kBlock>(scales, byte, 0),
                      shadow_part<kBlock>(scales, byte, 1));
  }
};

// e4m3 has the form of a half with 7 bits less, and an exponent that is 8 less.
struct LoadShadowFp8 {
  static Float load(const std::byte* row, int column, int head_dim) {
    const hn::Rebind<std::uint8_t, FloatTag> bytes;
    const hn::Rebind<std::uint16_t, FloatTag> words;
    const hn::Rebind<hwy::float16_t, FloatTag> halves;
    const auto code =
        hn::PromoteTo(words, hn::LoadU(bytes, reinterpret_cast<const std::uint8_t*>(row) + column));
    const auto sign = hn::ShiftLeft<8>(hn::And(code, hn::Set(words, 0x80)));
    const auto magnitude = hn::ShiftLeft<7>(hn::And(code, hn::Set(words, 0x7f)));
    float scale = 0;
    std::memcpy(&scale, row + head_dim, sizeof(scale));
    return hn::Mul(hn::PromoteTo(FloatTag(), hn::BitCast(halves, hn::Or(sign, magnitude))),
                   hn::Set(FloatTag(), scale * 0x1p8F));
  }
};

template <class Load>
float dot(const float* query, const std::byte* key, int head_dim) {
  Float sum = hn::Zero(FloatTag());
  for (int column = 0; column < head_dim; column += lanes()) {
    sum = hn::MulAdd(hn::LoadU(FloatTag(), query + column), Load::load(key, column, head_dim), sum);
  }
  return hn::GetLane(hn::SumOfLanes(FloatTag(), sum));
}

// Scores of rows that `row_at` tells the place of.
template <class Load, class RowAt>
void score_each(const GroupLayout& layout, const float* query, int keys, const RowAt& row_at,
                float* scores) {
  for (int key = 0; key < keys; ++key) {
    const std::byte* row = row_at(key);
    for (int head = 0; head < layout.group; ++head) {
      scores[head * kScoreStride + key] =
          dot<Load>(query + head * layout.head_dim, row, layout.head_dim);
    }
  }
  for (int head = 0; head < layout.group; ++head) {
    float* row = scores + head * kScoreStride;
    std::fill(row + keys, row + padded_keys(keys), -kInfinity);
  }
}

template <class Load>
void score(const GroupLayout& layout, const float* query, const std::byte* const* blocks, int keys,
           float* scores) {
  const auto row_at = [&](int key) HWY_ATTR {
    return blocks[key / kBlockKeys] + key % kBlockKeys * layout.row_bytes;
  };
  score_each<Load>(layout, query, keys, row_at, scores);
}

template <class Load>
void score_rows(const GroupLayout& layout, const float* query, const std::byte* const* rows,
                int count, float* scores) {
  const auto row_at = [&](int key) HWY_ATTR {
    hwy::Prefetch(rows[key + kRowsAhead]);
    return rows[key];
  };
  score_each<Load>(layout, query, count, row_at, scores);
}

template <class Load>
void accumulate(const GroupLayout& layout, const float* weights, const std::byte* const* rows,
                int count, float* sums) {
  const FloatTag tag;
  for (int row = 0; row < count; ++row) {
    hwy::Prefetch(rows[row + kRowsAhead]);
    for (int column = 0; column < layout.head_dim; column += lanes()) {
      const Float value = Load::load(rows[row], column, layout.head_dim);
      for (int head = 0; head < layout.group; ++head) {
        float* sum = sums + head * layout.head_dim + column;
        const Float weight = hn::Set(tag, weights[head * kScoreStride + row]);
        hn::StoreU(hn::MulAdd(weight, value, hn::LoadU(tag, sum)), tag, sum);
      }
    }
  }
}

float maximum(const float* values, int count) {
  Float greatest = hn::Set(FloatTag(), -kInfinity);
  for (int i = 0; i < count; i += lanes()) {
    greatest = hn::Max(greatest, hn::LoadU(FloatTag(), values + i));
  }
  return hn::GetLane(hn::MaxOfLanes(FloatTag(), greatest));
}

// Calls sink(i, powers) for every vector of powers of two and returns their sum.
template <class Sink>
float sum_of_powers(const float* values, int count, float reference, const Sink& sink) {
  const FloatTag tag;
  Float sum = hn::Zero(tag);
  for (int i = 0; i < count; i += lanes()) {
    const Float shifted = hn::Sub(hn::LoadU(tag, values + i), hn::Set(tag, reference));
    const Float power = exp2(tag, shifted);
    sink(i, power);
    sum = hn::Add(sum, power);
  }
  return hn::GetLane(hn::SumOfLanes(tag, sum));
}

float sum_exp2(const float* values, int count, float reference) {
  return sum_of_powers(values, count, reference, [](int, Float) HWY_ATTR {});
}

float replace_exp2(float* values, int count, float reference) {
  return sum_of_powers(values, count, reference, [values](int i, Float power) HWY_ATTR {
    hn::StoreU(power, FloatTag(), values + i);
  });
}

// One bit for each of the 16 scores of a block that exceeds the threshold.
unsigned passing(const float* scores, float threshold) {
  unsigned bits = 0;
  for (int i = 0; i < kBlockKeys; i += lanes()) {
    const auto greater = hn::Gt(hn::LoadU(FloatTag(), scores + i), hn::Set(FloatTag(), threshold));
    std::uint8_t bytes[8] = {};
    hn::StoreMaskBits(FloatTag(), greater, bytes);
    std::uint16_t word = 0;
    std::memcpy(&word, bytes, sizeof(word));
    bits |= unsigned{word} << i;
  }
  return bits;
}

unsigned bits_below(int count) { return (1U << std::clamp(count, 0, kBlockKeys)) - 1U; }

// Bits of the keys of the block at `first` that are kept whatever their score.
unsigned forced_keys(const SelectTask& task, int first) {
  const unsigned old = bits_below(task.forced_before - first);
  const unsigned recent = ~bits_below(task.forced_from - first);
  return bits_below(task.keys - first) & (old | recent);
}

unsigned only_key(const SelectTask& task, int head, int first) {
  const int place = task.only_keys[head] - first;
  return place >= 0 && place < kBlockKeys ? 1U << place : 0U;
}

// Writes key `first + place` behind what survives already.
void append_survivor(const SelectTask& task, int first, int place, Selected& selected) {
  selected.indices[selected.rows] = static_cast<std::uint16_t>(first + place);
  for (int head = 0; head < task.group; ++head) {
    const bool kept = (selected.masks[head] >> place & 1) != 0;
    selected.scores[head * kScoreStride + selected.rows] =
        kept ? task.scores[head * kScoreStride + first + place] : -kInfinity;
  }
  selected.rows += 1;
}

void select_block(const SelectTask& task, int first, Selected& selected) {
  const unsigned forced = forced_keys(task, first);
  unsigned all = 0;
  for (int head = 0; head < task.group; ++head) {
    const unsigned passed =
        passing(task.scores + head * kScoreStride + first, task.thresholds[head]);
    const unsigned kept = passed | forced | only_key(task, head, first);
    selected.masks[head] = static_cast<std::uint16_t>(kept);
    selected.counts[head].kept += std::popcount(kept);
    selected.counts[head].kept_eligible += std::popcount(passed & ~forced);
    all |= kept;
  }
  selected.rows_eligible += std::popcount(all & ~forced);
  for (; all != 0; all &= all - 1) append_survivor(task, first, std::countr_zero(all), selected);
}

void select(const SelectTask& task, Selected& selected) {
  selected.rows = 0;
  selected.rows_eligible = 0;
  std::fill(selected.counts, selected.counts + task.group, KeptCounts{});
  for (int first = 0; first < task.keys; first += kBlockKeys) select_block(task, first, selected);
  for (int head = 0; head < task.group; ++head) {
    float* row = selected.scores + head * kScoreStride;
    std::fill(row + selected.rows, row + padded_keys(selected.rows), -kInfinity);
  }
}

void add_scaled(float* sums, const float* addend, float scale, int count) {
  const FloatTag tag;
  for (int i = 0; i < count; i += lanes()) {
    const Float product = hn::Mul(hn::Set(tag, scale), hn::LoadU(tag, addend + i));
    hn::StoreU(hn::Add(hn::LoadU(tag, sums + i), product), tag, sums + i);
  }
}

Collected collect(const float* values, std::int64_t count, float low, float high, float* inside) {
  Collected found;
  for (std::int64_t i = 0; i < count; ++i) {
    inside[found.inside] = values[i];
    found.below += values[i] < low ? 1 : 0;
    found.inside += values[i] >= low && values[i] <= high ? 1 : 0;
  }
  return found;
}

}  // namespace

const DecodeKernels& table() {
  static const DecodeKernels kKernels = {
      .name = hwy::TargetName(HWY_TARGET),
      .score = {score<LoadF32>, score<LoadF16>, score<LoadBF16>, score<LoadQ8>},
      .score_rows = {score_rows<LoadF32>, score_rows<LoadF16>, score_rows<LoadBF16>,
                     score_rows<LoadQ8>},
      .score_shadow = {score<LoadShadow4<16>>, score<LoadShadow4<32>>, score<LoadShadow4<64>>,
                       score<LoadShadowFp8>},
      .accumulate = {accumulate<LoadF32>, accumulate<LoadF16>, accumulate<LoadBF16>,
                     accumulate<LoadQ8>},
      .maximum = maximum,
      .sum_exp2 = sum_exp2,
      .replace_exp2 = replace_exp2,
      .select = select,
      .add_scaled = add_scaled,
      .collect = collect,
  };
  return kKernels;
}

}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sift::cpu {

HWY_EXPORT(table);

const DecodeKernels& portable_decode_kernels() { return HWY_DYNAMIC_DISPATCH(table)(); }

const DecodeKernels* avx512_decode_kernels() {
  const bool supported = best_instruction_set() == InstructionSet::avx512;
  return supported ? compiled_avx512_decode_kernels() : nullptr;
}

const DecodeKernels& decode_kernels() {
  const DecodeKernels* best = avx512_decode_kernels();
  return best != nullptr ? *best : portable_decode_kernels();
}

}  // namespace sift::cpu
#endif
