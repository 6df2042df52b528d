#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "sift/core/dtype.h"
#include "sift/core/key_shadow.h"
#include "sift/kernels/cuda/decode_arguments.h"

namespace sift::cuda {

// Shadows of keys (sift/core/key_shadow.h) beside a cache on a device.
//
// A tile holds the shadows of 16 neighbouring slots of one page for one KV head, the first slot's
// number being a multiple of 16. It has the bytes of 16 rows as the host has them, in another
// order, so that a warp that scores a tile with tensor cores loads its codes in one piece per lane:
//
//   codes    of key 0, of key 1, … of key 15, D·b/8 bytes each. Codes 8u … 8u + 7 of a key are a
//            unit of b bytes, the same bytes as on the host. Unit u = 4s + t (s < D/32, t < 4) has
//            place t·D/32 + s among the units of its key.
//   scales   of key 0, of key 1, … of key 15: what follows the codes of the host's row.
//
// A product over 16 keys and 16 dimensions takes from lane 4g + t the keys g and g + 8 and, for
// each, four dimensions. Which dimensions is free, as long as the query has them in the same order:
// lane 4g + t takes the codes 32s + 8t … 32s + 8t + 7 for two products. For all D dimensions those
// lie side by side, at place (32h + 4g + t)·D/32 of the tile's units for key 8h + g: 16 bytes of
// 4-bit codes for D = 128, and lanes read neighbouring pieces.

/// Keys of one tile.
inline constexpr int kShadowTileKeys = 16;

/// Bytes of one tile, a multiple of 16.
SIFT_HOST_DEVICE constexpr int shadow_tile_bytes(const KeyShadowFormat& format, int head_dim) {
  return kShadowTileKeys *
         static_cast<int>(code_row_bytes(format, head_dim) + scale_row_bytes(format, head_dim));
}

/// Bytes from the beginning of a tile to unit `unit` of the codes of its key `key`.
SIFT_HOST_DEVICE constexpr int shadow_unit_offset(const KeyShadowFormat& format, int head_dim,
                                                  int key, int unit) {
  const int place = (4 * key + unit % 4) * (head_dim / 32) + unit / 4;
  return place * code_bits(format.code);
}

/// Bytes from the beginning of a tile to the scales of its key `key`.
SIFT_HOST_DEVICE constexpr int shadow_scales_offset(const KeyShadowFormat& format, int head_dim,
                                                    int key) {
  return kShadowTileKeys * static_cast<int>(code_row_bytes(format, head_dim)) +
         key * static_cast<int>(scale_row_bytes(format, head_dim));
}

/// Where the shadows of a cache lie. Tile j of a page: tiles + page · page_stride + kv_head ·
/// head_stride + j · shadow_tile_bytes; strides in bytes, multiples of 16, and `tiles` aligned to
/// 16. Pages are those of the cache: the request, where it has no table.
struct KeyShadowAddress {
  void* tiles = nullptr;
  std::int64_t page_stride = 0;
  std::int64_t head_stride = 0;
  KeyShadowFormat format;  ///< 4 bits in blocks of 32 or 64, or fp8
};

/// Which shadows to make. Pointers are to device memory, and what they point at may change between
/// replays of a graph.
struct KeyShadowArguments {
  int batch = 0;
  int kv_heads = 0;
  int head_dim = 0;  ///< 64, 96, 128 or 256
  DType type = DType::f16;
  CacheAddress cache;  ///< values are not read
  KeyShadowAddress shadows;
  const std::int32_t* begin = nullptr;  ///< [batch] first key of each request
  const std::int32_t* end = nullptr;    ///< [batch] one behind the last, at least 0
  int most = 0;  ///< about the greatest end − begin: it decides how many threads share the work
};

/// Makes the shadows of keys begin[b] … end[b] − 1 of every request b and all KV heads from the
/// cache, byte for byte those of sift::write_key_shadow; no other byte of a tile changes. One
/// launch; asynchronous; may be captured. Throws Error (invalid_argument) before it for arguments
/// that are not served.
void write_key_shadows(const KeyShadowArguments& arguments, cudaStream_t stream);

}  // namespace sift::cuda
