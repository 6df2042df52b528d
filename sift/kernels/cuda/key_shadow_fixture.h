#pragma once

// Reads tiles of shadows on the host, for tests. The places of codes are written down here a second
// time, as a lane of a warp finds them.

#include <cstddef>
#include <cstring>
#include <vector>

#include "sift/kernels/cuda/key_shadow.h"

namespace sift::cuda {

/// Byte of a tile at which the codes 32 s + 8 t … 32 s + 8 t + 7 of key 8 h + g lie.
inline std::size_t codes_of_lane(const KeyShadowFormat& format, int head_dim, int h, int g, int t,
                                 int s) {
  const int unit = (h * 32 + 4 * g + t) * (head_dim / 32) + s;
  return static_cast<std::size_t>(unit) * static_cast<std::size_t>(code_bits(format.code));
}

/// Calls copy(byte of the host's row, byte of the tile, bytes) for all parts of the shadow of key
/// `key` of a tile.
template <class Copy>
void for_parts_of_shadow(const KeyShadowFormat& format, int head_dim, int key, const Copy& copy) {
  const auto unit_bytes = static_cast<std::size_t>(code_bits(format.code));
  for (int s = 0; s < head_dim / 32; ++s) {
    for (int t = 0; t < 4; ++t) {
      const auto unit = static_cast<std::size_t>(4 * s + t);
      copy(unit * unit_bytes, codes_of_lane(format, head_dim, key / 8, key % 8, t, s), unit_bytes);
    }
  }
  const std::size_t codes = code_row_bytes(format, head_dim);
  const std::size_t scales = scale_row_bytes(format, head_dim);
  copy(codes, kShadowTileKeys * codes + static_cast<std::size_t>(key) * scales, scales);
}

/// Puts the host's row of one key into its place of a tile.
inline void put_shadow(const KeyShadowFormat& format, int head_dim, const std::byte* row,
                       std::byte* tile, int key) {
  for_parts_of_shadow(format, head_dim, key,
                      [&](std::size_t of_row, std::size_t of_tile, std::size_t bytes) {
                        std::memcpy(tile + of_tile, row + of_row, bytes);
                      });
}

/// The key [head_dim] that the shadow of key `key` of a tile stands for.
inline std::vector<float> get_shadowed_key(const KeyShadowFormat& format, int head_dim,
                                           const std::byte* tile, int key) {
  std::vector<std::byte> row(key_shadow_row_bytes(format, head_dim));
  for_parts_of_shadow(format, head_dim, key,
                      [&](std::size_t of_row, std::size_t of_tile, std::size_t bytes) {
                        std::memcpy(row.data() + of_row, tile + of_tile, bytes);
                      });
  std::vector<float> values(static_cast<std::size_t>(head_dim));
  read_key_shadow(format, row.data(), head_dim, values.data());
  return values;
}

/// Where the tiles of a cache lie, and how much memory they take.
struct ShadowPlan {
  KeyShadowAddress address;
  std::int64_t bytes = 0;
};

/// Whether the tiles of a page stand together, or those of a KV head.
enum class TileOrder { pages, heads };

/// Places tiles, with room between heads and pages that belongs to none.
inline ShadowPlan lay_out_shadows(const KeyShadowFormat& format, int head_dim, int kv_heads,
                                  std::int64_t pages, std::int64_t rows_per_page, TileOrder order) {
  const std::int64_t tiles = (rows_per_page + kShadowTileKeys - 1) / kShadowTileKeys;
  const std::int64_t run = tiles * shadow_tile_bytes(format, head_dim);
  ShadowPlan plan;
  plan.address.format = format;
  if (order == TileOrder::pages) {
    plan.address.head_stride = run + 32;
    plan.address.page_stride = kv_heads * plan.address.head_stride + 16;
    plan.bytes = pages * plan.address.page_stride;
  } else {
    plan.address.page_stride = run;
    plan.address.head_stride = pages * run + 48;
    plan.bytes = kv_heads * plan.address.head_stride;
  }
  return plan;
}

/// Byte at which the tile of a slot begins.
inline std::int64_t tile_offset(const KeyShadowAddress& address, int head_dim, std::int64_t page,
                                int kv_head, std::int64_t slot) {
  return page * address.page_stride + kv_head * address.head_stride +
         slot / kShadowTileKeys * shadow_tile_bytes(address.format, head_dim);
}

}  // namespace sift::cuda
