// Portable kernels, compiled once per instruction set. Each block of 16 rows and 32 columns is
// expanded to floats in a small buffer, which all rows of activations then meet.

#include <algorithm>
#include <cstdint>

#include "sift/kernels/cpu/tile_format.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sift/kernels/cpu/matvec.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sift/kernels/cpu/bfloat-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A lane is a row; a tile is 16 / lanes vectors wide.
using Floats = hn::CappedTag<float, kTileRows>;
using Words = hn::RebindToUnsigned<Floats>;

/// 32 columns of a tile: value = step · codes + min. In modes that need the values themselves,
/// `codes` are these and `scaled` is false.
struct Block {
  alignas(64) float codes[kBlockColumns * kTileRows];
  alignas(64) float steps[2 * kTileRows];  ///< of each half of 16 columns
  alignas(64) float mins[kTileRows];
};

HWY_INLINE hn::Vec<Floats> load_halves(const std::uint8_t* p) {
  const hn::Rebind<hwy::float16_t, Floats> dh;
  return hn::PromoteTo(Floats(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(p)));
}

/// Small signed integers as floats.
HWY_INLINE hn::Vec<Floats> load_bytes(const std::uint8_t* p) {
  const hn::Rebind<std::int8_t, Floats> db;
  const hn::RebindToSigned<Floats> di;
  const auto bytes = hn::LoadU(db, reinterpret_cast<const std::int8_t*>(p));
  return hn::ConvertTo(Floats(), hn::PromoteTo(di, bytes));
}

HWY_INLINE hn::Vec<Words> load_words(const std::uint8_t* p) {
  return hn::LoadU(Words(), reinterpret_cast<const std::uint32_t*>(p));
}

/// Codes of columns 4k … 4k + 3, a byte each.
template <TileFormat format, int k>
HWY_INLINE hn::Vec<Words> load_codes(const std::uint8_t* block, std::size_t row) {
  const std::uint8_t* low = block + format.low_offset + 4 * row;
  const std::uint8_t* high = block + format.high_offset + 4 * row;
  if constexpr (format.bits == 8) return load_words(low + 64 * k);
  auto both = load_words(low + 64 * (k % 4));
  if constexpr (k >= 4) both = hn::ShiftRight<4>(both);
  const auto nibbles = hn::And(both, hn::Set(Words(), 0x0f0f0f0fU));
  if constexpr (format.bits == 5) {
    const auto fifth = hn::And(hn::ShiftRight<k>(load_words(high)), hn::Set(Words(), 0x01010101U));
    return hn::Or(nibbles, hn::ShiftLeft<4>(fifth));
  }
  if constexpr (format.bits == 6) {
    const auto plane = hn::ShiftRight<2 * (k % 4)>(load_words(high + 64 * (k / 4)));
    return hn::Or(nibbles, hn::ShiftLeft<4>(hn::And(plane, hn::Set(Words(), 0x03030303U))));
  }
  return nibbles;
}

template <int offset, int j>
HWY_INLINE void store_byte(hn::Vec<Words> codes, float* out) {
  const Floats df;
  const hn::RebindToSigned<Floats> di;
  const auto byte = hn::And(hn::ShiftRight<8 * j>(codes), hn::Set(Words(), 0xffU));
  const auto signed_code = hn::Sub(hn::BitCast(di, byte), hn::Set(di, offset));
  hn::Store(hn::ConvertTo(df, signed_code), df, out + kTileRows * j);
}

template <TileFormat format, int k>
HWY_INLINE void expand_four_columns(const std::uint8_t* block, float* codes) {
  for (std::size_t row = 0; row < kTileRows; row += hn::Lanes(Floats())) {
    const auto bytes = load_codes<format, k>(block, row);
    float* out = codes + 4 * kTileRows * k + row;
    store_byte<format.offset, 0>(bytes, out);
    store_byte<format.offset, 1>(bytes, out);
    store_byte<format.offset, 2>(bytes, out);
    store_byte<format.offset, 3>(bytes, out);
  }
}

/// Block `index` of a tile of a quantised type.
template <TileFormat format>
void read_codes(const std::uint8_t* tile, std::int64_t index, Block& out) {
  const std::uint8_t* header = tile + index / format.blocks * format.group_bytes;
  const std::uint8_t* block =
      header + format.header_bytes + index % format.blocks * format.block_bytes;
  expand_four_columns<format, 0>(block, out.codes);
  expand_four_columns<format, 1>(block, out.codes);
  expand_four_columns<format, 2>(block, out.codes);
  expand_four_columns<format, 3>(block, out.codes);
  expand_four_columns<format, 4>(block, out.codes);
  expand_four_columns<format, 5>(block, out.codes);
  expand_four_columns<format, 6>(block, out.codes);
  expand_four_columns<format, 7>(block, out.codes);
  const Floats df;
  for (std::size_t row = 0; row < kTileRows; row += hn::Lanes(df)) {
    const auto d = load_halves(header + 2 * row);
    auto min = hn::Zero(df);
    if constexpr (format.has_min) min = load_halves(header + 32 + 2 * row);
    if constexpr (format.has_min && format.scales > 0) {
      min = hn::Mul(min, load_bytes(block + 16 * format.scales + row));
    }
    for (std::size_t half = 0; half < 2; ++half) {
      auto step = d;
      if constexpr (format.scales > 0) {
        step = hn::Mul(d, load_bytes(block + (format.scales == 2 ? 16 * half : 0) + row));
      }
      hn::Store(step, df, out.steps + kTileRows * half + row);
    }
    hn::Store(min, df, out.mins + row);
  }
}

/// Codes become values.
void apply_steps(Block& block) {
  const Floats df;
  for (std::size_t c = 0; c < kBlockColumns; ++c) {
    for (std::size_t row = 0; row < kTileRows; row += hn::Lanes(df)) {
      float* at = block.codes + kTileRows * c + row;
      const auto step = hn::Load(df, block.steps + kTileRows * (c / 16) + row);
      hn::Store(hn::MulAdd(step, hn::Load(df, at), hn::Load(df, block.mins + row)), df, at);
    }
  }
}

void round_values(Block& block) {
  const Floats df;
  for (std::size_t i = 0; i < kBlockColumns * kTileRows; i += hn::Lanes(df)) {
    hn::Store(round_to_bfloat(df, hn::Load(df, block.codes + i)), df, block.codes + i);
  }
}

template <TileFormat format>
struct Quantised {
  static constexpr bool kScaled = true;
  static constexpr bool kHasMin = format.has_min;
  static constexpr bool kTwoSteps = format.scales == 2;
  static void read(const std::uint8_t* tile, std::int64_t index, Block& out) {
    read_codes<format>(tile, index, out);
  }
  static void read_values(const std::uint8_t* tile, std::int64_t index, Block& out) {
    read_codes<format>(tile, index, out);
    apply_steps(out);
  }
};

template <DType type>
struct Plain {
  static constexpr bool kScaled = false;
  static constexpr bool kHasMin = false;
  static constexpr bool kTwoSteps = false;
  static void read(const std::uint8_t* tile, std::int64_t index, Block& out) {
    const Floats df;
    constexpr std::int64_t kBytes = type == DType::f32 ? 4 : 2;
    const std::uint8_t* at = tile + index * kBytes * kBlockColumns * kTileRows;
    for (std::size_t i = 0; i < kBlockColumns * kTileRows; i += hn::Lanes(df)) {
      if constexpr (type == DType::f32) {
        hn::Store(hn::LoadU(df, reinterpret_cast<const float*>(at + 4 * i)), df, out.codes + i);
      } else if constexpr (type == DType::f16) {
        hn::Store(load_halves(at + 2 * i), df, out.codes + i);
      } else {
        read_pair(at, i, out);
      }
    }
  }
  static void read_values(const std::uint8_t* tile, std::int64_t index, Block& out) {
    read(tile, index, out);
  }

 private:
  /// Element i of the block as floats stands in column i / 16; bfloat16 come in pairs of columns.
  static HWY_INLINE void read_pair(const std::uint8_t* block, std::size_t i, Block& out) {
    const std::size_t column = i / kTileRows;
    const auto pair = load_words(block + 64 * (column / 2) + 4 * (i % kTileRows));
    const auto bits =
        column % 2 == 0 ? hn::ShiftLeft<16>(pair) : hn::And(pair, hn::Set(Words(), 0xffff0000U));
    hn::Store(hn::BitCast(Floats(), bits), Floats(), out.codes + i);
  }
};

/// Σ codes · x over 16 columns for the rows from `row` on.
HWY_INLINE hn::Vec<Floats> half_product(const float* codes, const float* x) {
  const Floats df;
  auto s0 = hn::Zero(df);
  auto s1 = hn::Zero(df);
  for (std::size_t c = 0; c < 16; c += 2) {
    s0 = hn::MulAdd(hn::Load(df, codes + kTileRows * c), hn::Set(df, x[c]), s0);
    s1 = hn::MulAdd(hn::Load(df, codes + kTileRows * (c + 1)), hn::Set(df, x[c + 1]), s1);
  }
  return hn::Add(s0, s1);
}

/// sums [16] += block · x. The steps are multiplied by x_scale and the mins by x_sum.
template <class Type>
HWY_INLINE void add_block(const Block& block, const float* x, float x_scale, float x_sum,
                          float* sums) {
  const Floats df;
  for (std::size_t row = 0; row < kTileRows; row += hn::Lanes(df)) {
    const auto first = half_product(block.codes + row, x);
    const auto second = half_product(block.codes + 16 * kTileRows + row, x + 16);
    auto sum = hn::Load(df, sums + row);
    if constexpr (!Type::kScaled) {
      sum = hn::Add(sum, hn::Add(first, second));
    } else {
      const auto scale = hn::Set(df, x_scale);
      const auto step = hn::Mul(hn::Load(df, block.steps + row), scale);
      if constexpr (Type::kTwoSteps) {
        const auto step2 = hn::Mul(hn::Load(df, block.steps + kTileRows + row), scale);
        sum = hn::MulAdd(step2, second, hn::MulAdd(step, first, sum));
      } else {
        sum = hn::MulAdd(step, hn::Add(first, second), sum);
      }
      if constexpr (Type::kHasMin) {
        sum = hn::MulAdd(hn::Load(df, block.mins + row), hn::Set(df, x_sum), sum);
      }
    }
    hn::Store(sum, df, sums + row);
  }
}

template <class Type>
struct F32Mode {
  static void read(const std::uint8_t* tile, std::int64_t index, Block& block) {
    Type::read(tile, index, block);
  }
  static HWY_INLINE void add(const Block& block, const DecodeInput& input, std::int64_t at,
                             float* sums) {
    add_block<Type>(block, input.values + at * kBlockColumns, 1.0F, input.sums[at], sums);
  }
};

template <class Type>
struct Bf16Mode {
  static void read(const std::uint8_t* tile, std::int64_t index, Block& block) {
    Type::read_values(tile, index, block);
    round_values(block);
  }
  static HWY_INLINE void add(const Block& block, const DecodeInput& input, std::int64_t at,
                             float* sums) {
    add_block<Plain<DType::f32>>(block, input.values + at * kBlockColumns, 1.0F, 0.0F, sums);
  }
};

/// Products of small integers and their sums are exact in floats.
template <class Type>
struct Q8Mode {
  static void read(const std::uint8_t* tile, std::int64_t index, Block& block) {
    Type::read(tile, index, block);
  }
  static HWY_INLINE void add(const Block& block, const DecodeInput& input, std::int64_t at,
                             float* sums) {
    float x[kBlockColumns];
    for (int c = 0; c < kBlockColumns; ++c) {
      x[c] = static_cast<float>(input.codes[at * kBlockColumns + c]);
    }
    add_block<Type>(block, x, input.scales[at], input.scaled_sums[at], sums);
  }
};

/// One tile times up to 16 rows of activations, from row `first` on.
template <class Mode>
void multiply_tile(const TileView& weight, std::int64_t tile, const DecodeInput& input,
                   std::int64_t first, bool add, float* out) {
  constexpr std::int64_t kRows = 16;
  alignas(64) float sums[kRows * kTileRows] = {};
  const std::int64_t rows = std::min(kRows, input.rows - first);
  Block block;
  for (std::int64_t b = 0; b < weight.blocks; ++b) {
    Mode::read(weight.tiles + tile * weight.tile_bytes, b, block);
    for (std::int64_t i = 0; i < rows; ++i) {
      Mode::add(block, input, (first + i) * input.blocks + b, sums + kTileRows * i);
    }
  }
  const std::int64_t width = std::min<std::int64_t>(kTileRows, weight.outputs - tile * kTileRows);
  for (std::int64_t i = 0; i < rows; ++i) {
    float* to = out + (first + i) * weight.outputs + tile * kTileRows;
    for (std::int64_t r = 0; r < width; ++r) {
      to[r] = add ? to[r] + sums[kTileRows * i + r] : sums[kTileRows * i + r];
    }
  }
}

template <class Mode>
void multiply(const TileView& weight, std::int64_t begin, std::int64_t end,
              const DecodeInput& input, bool add, float* out) {
  for (std::int64_t tile = begin; tile < end; ++tile) {
    for (std::int64_t first = 0; first < input.rows; first += 16) {
      multiply_tile<Mode>(weight, tile, input, first, add, out);
    }
  }
}

template <class Type, bool rounded>
void expand(const TileView& weight, std::int64_t tile, std::int64_t stride, void* destination) {
  const Floats df;
  Block block;
  for (std::int64_t b = 0; b < weight.blocks; ++b) {
    Type::read_values(weight.tiles + tile * weight.tile_bytes, b, block);
    if constexpr (rounded) round_values(block);
    float* out = static_cast<float*>(destination) + b * kBlockColumns * stride;
    for (std::size_t c = 0; c < kBlockColumns; ++c, out += stride) {
      for (std::size_t row = 0; row < kTileRows; row += hn::Lanes(df)) {
        hn::StoreU(hn::Load(df, block.codes + kTileRows * c + row), df, out + row);
      }
    }
  }
}

template <class Type>
TileKernels kernels_of() {
  const MultiplyTiles f32 = multiply<F32Mode<Type>>;
  MultiplyTiles q8 = f32;
  if constexpr (Type::kScaled) q8 = multiply<Q8Mode<Type>>;
  return {f32, multiply<Bf16Mode<Type>>, q8, expand<Type, false>, expand<Type, true>, nullptr};
}

TileKernels kernels(DType type) {
  switch (type) {
    case DType::f32:
      return kernels_of<Plain<DType::f32>>();
    case DType::f16:
      return kernels_of<Plain<DType::f16>>();
    case DType::bf16:
      return kernels_of<Plain<DType::bf16>>();
    case DType::q8_0:
      return kernels_of<Quantised<kQ8_0>>();
    case DType::q4_0:
      return kernels_of<Quantised<kQ4_0>>();
    case DType::q4_1:
      return kernels_of<Quantised<kQ4_1>>();
    case DType::q5_0:
      return kernels_of<Quantised<kQ5_0>>();
    case DType::q5_1:
      return kernels_of<Quantised<kQ5_1>>();
    case DType::q4_k:
      return kernels_of<Quantised<kQ4_K>>();
    case DType::q5_k:
      return kernels_of<Quantised<kQ5_K>>();
    case DType::q6_k:
      return kernels_of<Quantised<kQ6_K>>();
  }
  return {};
}

}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sift::cpu {

HWY_EXPORT(kernels);

TileKernels portable_kernels(DType type) { return HWY_DYNAMIC_DISPATCH(kernels)(type); }

}  // namespace sift::cpu
#endif
