#include "sift/kernels/cpu/packed_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "sift/core/block_formats.h"
#include "sift/core/error.h"
#include "sift/core/half.h"

namespace sift::cpu {
namespace {

/// 32 consecutive values of one row: value = d · scale · (code − offset) + m · min.
struct RowBlock {
  std::uint8_t codes[kBlockColumns];
  Half d;
  Half m;
  std::uint8_t scales[2];
  std::uint8_t min;
};

std::uint32_t load_word(const std::uint8_t* source) {
  std::uint32_t word;
  std::memcpy(&word, source, sizeof(word));
  return word;
}

void store_word(std::uint8_t* destination, std::uint32_t word) {
  std::memcpy(destination, &word, sizeof(word));
}

template <class Block>
void read_nibbles(const Block& block, RowBlock& out) {
  for (int i = 0; i < 16; ++i) {
    out.codes[i] = block.q[i] & 15;
    out.codes[i + 16] = block.q[i] >> 4;
  }
  out.d = block.d;
}

template <class Block>
void add_fifth_bits(const Block& block, RowBlock& out) {
  const std::uint32_t bits = load_word(block.high);
  for (int i = 0; i < kBlockColumns; ++i) {
    out.codes[i] = static_cast<std::uint8_t>(out.codes[i] | ((bits >> i) & 1) << 4);
  }
}

void read_block(const BlockQ4_0& block, int, RowBlock& out) { read_nibbles(block, out); }

void read_block(const BlockQ4_1& block, int, RowBlock& out) {
  read_nibbles(block, out);
  out.m = block.m;
}

void read_block(const BlockQ5_0& block, int, RowBlock& out) {
  read_nibbles(block, out);
  add_fifth_bits(block, out);
}

void read_block(const BlockQ5_1& block, int, RowBlock& out) {
  read_nibbles(block, out);
  add_fifth_bits(block, out);
  out.m = block.m;
}

void read_block(const BlockQ8_0& block, int, RowBlock& out) {
  for (int i = 0; i < kBlockColumns; ++i) {
    out.codes[i] = static_cast<std::uint8_t>(block.q[i] + 128);
  }
  out.d = block.d;
}

/// Codes, scale and min of sub-block `sub` of the 4- and 5-bit K types, fifth bits left out.
template <class Block>
void read_k_block(const Block& block, int sub, RowBlock& out) {
  const std::uint8_t* q = block.q + 32 * (sub / 2);
  const int shift = 4 * (sub % 2);
  for (int i = 0; i < kBlockColumns; ++i) {
    out.codes[i] = static_cast<std::uint8_t>((q[i] >> shift) & 15);
  }
  out.d = block.d;
  out.m = std::bit_cast<Half>(
      static_cast<std::uint16_t>(std::bit_cast<std::uint16_t>(block.dmin) ^ 0x8000U));
  const std::uint8_t* s = block.scales;
  if (sub < 4) {
    out.scales[0] = s[sub] & 63;
    out.min = s[sub + 4] & 63;
  } else {
    out.scales[0] = static_cast<std::uint8_t>((s[sub + 4] & 15) | (s[sub - 4] >> 6) << 4);
    out.min = static_cast<std::uint8_t>((s[sub + 4] >> 4) | (s[sub] >> 6) << 4);
  }
}

void read_block(const BlockQ4_K& block, int sub, RowBlock& out) { read_k_block(block, sub, out); }

void read_block(const BlockQ5_K& block, int sub, RowBlock& out) {
  read_k_block(block, sub, out);
  for (int i = 0; i < kBlockColumns; ++i) {
    out.codes[i] = static_cast<std::uint8_t>(out.codes[i] | ((block.high[i] >> sub) & 1) << 4);
  }
}

void read_block(const BlockQ6_K& block, int sub, RowBlock& out) {
  const int quarter = sub % 4;
  const std::uint8_t* low = block.low + 64 * (sub / 4) + 32 * (quarter % 2);
  const std::uint8_t* high = block.high + 32 * (sub / 4);
  const int shift = 4 * (quarter / 2);
  for (int i = 0; i < kBlockColumns; ++i) {
    const int nibble = (low[i] >> shift) & 15;
    out.codes[i] = static_cast<std::uint8_t>(nibble | ((high[i] >> 2 * quarter) & 3) << 4);
  }
  out.d = block.d;
  out.scales[0] = static_cast<std::uint8_t>(block.scales[2 * sub]);
  out.scales[1] = static_cast<std::uint8_t>(block.scales[2 * sub + 1]);
}

/// Puts the codes of row `r` into a block. Words hold four columns.
void write_codes(const TileFormat& format, const RowBlock& row, int r, std::uint8_t* block) {
  std::uint8_t* low = block + format.low_offset + 4 * r;
  std::uint8_t* high = block + format.high_offset + 4 * r;
  std::uint32_t words[8];
  std::memcpy(words, row.codes, sizeof(words));
  if (format.bits == 8) {
    for (int k = 0; k < 8; ++k) store_word(low + 64 * k, words[k]);
    return;
  }
  constexpr std::uint32_t kNibbles = 0x0f0f0f0f;
  for (int k = 0; k < 4; ++k) {
    store_word(low + 64 * k, (words[k] & kNibbles) | (words[k + 4] & kNibbles) << 4);
  }
  const int planes = format.bits - 4;  // each code has as many high bits
  for (int plane = 0; plane < planes; ++plane) {
    const int per_plane = 8 / planes;
    std::uint32_t bits = 0;
    for (int k = 0; k < per_plane; ++k) {
      bits |= ((words[per_plane * plane + k] & ~kNibbles) >> 4) << planes * k;
    }
    store_word(high + 64 * plane, bits);
  }
}

int read_code(const TileFormat& format, const std::uint8_t* block, int r, int c) {
  const int k = c / 4;
  const int j = c % 4;
  const std::uint8_t* low = block + format.low_offset + 4 * r + j;
  const std::uint8_t* high = block + format.high_offset + 4 * r + j;
  if (format.bits == 8) return low[64 * k];
  const int nibble = (low[64 * (k % 4)] >> (k < 4 ? 0 : 4)) & 15;
  if (format.bits == 5) return nibble | ((high[0] >> k) & 1) << 4;
  if (format.bits == 6) return nibble | ((high[64 * (k / 4)] >> 2 * (k % 4)) & 3) << 4;
  return nibble;
}

void write_half(std::uint8_t* destination, Half value) {
  std::memcpy(destination, &value, sizeof(value));
}

float read_half(const std::uint8_t* source) {
  Half value;
  std::memcpy(&value, source, sizeof(value));
  return static_cast<float>(value);
}

/// Row `r` of a tile out of a row of blocks.
template <class Block>
void pack_row(const TileFormat& format, const std::byte* source, std::int64_t blocks, int r,
              std::uint8_t* tile) {
  for (std::int64_t group = 0; group < blocks / format.blocks; ++group) {
    Block stored;
    std::memcpy(&stored, source + static_cast<std::size_t>(group) * sizeof(Block), sizeof(Block));
    std::uint8_t* header = tile + group * format.group_bytes;
    for (int sub = 0; sub < format.blocks; ++sub) {
      RowBlock row;
      read_block(stored, sub, row);
      std::uint8_t* block = header + format.header_bytes + sub * format.block_bytes;
      write_codes(format, row, r, block);
      for (int i = 0; i < format.scales; ++i) block[16 * i + r] = row.scales[i];
      if (format.scales > 0 && format.has_min) block[16 * format.scales + r] = row.min;
      write_half(header + 2 * r, row.d);
      if (format.has_min) write_half(header + 32 + 2 * r, row.m);
    }
  }
}

template <class Element>
void pack_plain_row(const std::byte* source, std::int64_t columns, int r, std::uint8_t* tile) {
  for (std::int64_t c = 0; c < columns; ++c) {
    std::memcpy(tile + static_cast<std::size_t>(16 * c + r) * sizeof(Element),
                source + static_cast<std::size_t>(c) * sizeof(Element), sizeof(Element));
  }
}

void pack_bf16_row(const std::byte* source, std::int64_t columns, int r, std::uint8_t* tile) {
  for (std::int64_t c = 0; c < columns; ++c) {
    std::memcpy(tile + 2 * (32 * (c / 2) + 2 * r + c % 2), source + 2 * c, 2);
  }
}

/// The format of a quantised type, null for plain ones.
const TileFormat* tile_format(DType type) {
  switch (type) {
    case DType::q8_0:
      return &kQ8_0;
    case DType::q4_0:
      return &kQ4_0;
    case DType::q4_1:
      return &kQ4_1;
    case DType::q5_0:
      return &kQ5_0;
    case DType::q5_1:
      return &kQ5_1;
    case DType::q4_k:
      return &kQ4_K;
    case DType::q5_k:
      return &kQ5_K;
    case DType::q6_k:
      return &kQ6_K;
    default:
      return nullptr;
  }
}

void pack_any_row(const MatrixView& source, std::int64_t row, std::int64_t blocks, int r,
                  std::uint8_t* tile) {
  const std::byte* data = source.row(row);
  switch (source.type) {
    case DType::f32:
      return pack_plain_row<float>(data, source.columns, r, tile);
    case DType::f16:
      return pack_plain_row<Half>(data, source.columns, r, tile);
    case DType::bf16:
      return pack_bf16_row(data, source.columns, r, tile);
    case DType::q8_0:
      return pack_row<BlockQ8_0>(kQ8_0, data, blocks, r, tile);
    case DType::q4_0:
      return pack_row<BlockQ4_0>(kQ4_0, data, blocks, r, tile);
    case DType::q4_1:
      return pack_row<BlockQ4_1>(kQ4_1, data, blocks, r, tile);
    case DType::q5_0:
      return pack_row<BlockQ5_0>(kQ5_0, data, blocks, r, tile);
    case DType::q5_1:
      return pack_row<BlockQ5_1>(kQ5_1, data, blocks, r, tile);
    case DType::q4_k:
      return pack_row<BlockQ4_K>(kQ4_K, data, blocks, r, tile);
    case DType::q5_k:
      return pack_row<BlockQ5_K>(kQ5_K, data, blocks, r, tile);
    case DType::q6_k:
      return pack_row<BlockQ6_K>(kQ6_K, data, blocks, r, tile);
  }
}

/// 32 values of row `r`: block `sub` of a group.
void read_group_block(const TileFormat& format, const std::uint8_t* header, int sub, int r,
                      float* out) {
  const std::uint8_t* block = header + format.header_bytes + sub * format.block_bytes;
  const float d = read_half(header + 2 * r);
  float add = 0;
  if (format.has_min) {
    const float m = read_half(header + 32 + 2 * r);
    add = format.scales > 0 ? m * static_cast<float>(block[16 * format.scales + r]) : m;
  }
  for (int c = 0; c < kBlockColumns; ++c) {
    float step = d;
    if (format.scales > 0) {  // signed where they are read as signed: scales with a min have 6 bits
      const std::uint8_t scale = block[16 * (c * format.scales / kBlockColumns) + r];
      step *= static_cast<float>(static_cast<std::int8_t>(scale));
    }
    out[c] = step * static_cast<float>(read_code(format, block, r, c) - format.offset) + add;
  }
}

float read_plain(DType type, const std::uint8_t* tile, std::int64_t c, int r) {
  if (type == DType::f16) return read_half(tile + 2 * (16 * c + r));
  if (type == DType::bf16) {
    BFloat16 value;
    std::memcpy(&value, tile + 2 * (32 * (c / 2) + 2 * r + c % 2), sizeof(value));
    return static_cast<float>(value);
  }
  float value;
  std::memcpy(&value, tile + 4 * (16 * c + r), sizeof(value));
  return value;
}

}  // namespace

PackedMatrix::PackedMatrix(const MatrixView& source, Compute compute, int threads, WeightPool& pool)
    : compute_(compute), inputs_(source.columns) {
  const TileFormat* format = tile_format(source.type);
  const int block_values = traits(source.type).block_values;
  if (source.rows < 1 || source.columns < 1 || source.columns % block_values != 0) {
    throw Error(ErrorKind::bad_file,
                fmt::format("matrix of {} x {} values of type {}: expected rows and a multiple of "
                            "{} columns",
                            source.rows, source.columns, traits(source.type).name, block_values));
  }
  const std::int64_t blocks = (source.columns + kBlockColumns - 1) / kBlockColumns;
  const std::int64_t tile_bytes =
      format != nullptr ? blocks / format->blocks * format->group_bytes
                        : blocks * kBlockColumns * kTileRows * traits(source.type).block_bytes;
  const std::int64_t count = (source.rows + kTileRows - 1) / kTileRows;
  storage_ = pool.allocate(static_cast<std::size_t>(count * tile_bytes));
  view_ = {source.type, storage_.get(), tile_bytes, blocks, source.rows};
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t t = 0; t < count; ++t) {
    std::uint8_t* tile = storage_.get() + t * tile_bytes;
    std::memset(tile, 0, static_cast<std::size_t>(tile_bytes));
    const std::int64_t first = t * kTileRows;
    const std::int64_t rows = std::min<std::int64_t>(kTileRows, source.rows - first);
    for (int r = 0; r < rows; ++r) pack_any_row(source, first + r, blocks, r, tile);
  }
}

void PackedMatrix::read_row(std::int64_t row, float* out) const {
  const std::uint8_t* tile = view_.tiles + row / kTileRows * view_.tile_bytes;
  const int r = static_cast<int>(row % kTileRows);
  const TileFormat* format = tile_format(view_.type);
  if (format == nullptr) {
    for (std::int64_t c = 0; c < inputs_; ++c) out[c] = read_plain(view_.type, tile, c, r);
    return;
  }
  for (std::int64_t b = 0; b < view_.blocks; ++b) {
    const std::uint8_t* header = tile + b / format->blocks * format->group_bytes;
    read_group_block(*format, header, static_cast<int>(b % format->blocks), r,
                     out + b * kBlockColumns);
  }
}

}  // namespace sift::cpu
