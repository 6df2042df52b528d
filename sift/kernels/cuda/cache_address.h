#pragma once

#include <cstdint>

#include "sift/core/key_shadow.h"

namespace sift::cuda {

/// Where the rows of a cache lie. Row `slot` of a page: base + page · page_stride + slot ·
/// slot_stride + kv_head · head_stride; strides in bytes, multiples of 16. So HND and NHD are two
/// choices of strides. The page of key i of request b is table[table_begin ? table_begin[b] + i /
/// page : b · table_stride + i / page]; without a table (contiguous caches) it is b, and page_shift
/// is 31. All rows of a side lie within 64 GiB of its base.
struct CacheAddress {
  const void* keys = nullptr;
  const void* values = nullptr;
  std::int64_t page_stride = 0;
  std::int64_t slot_stride = 0;
  std::int64_t head_stride = 0;
  int page_shift = 31;  ///< log2 of the keys of a page, at least 4
  const std::int32_t* table = nullptr;
  const std::int32_t* table_begin = nullptr;  ///< [batch]
  std::int64_t table_stride = 0;
};

/// Where the shadows of a cache lie. Tile j of a page: tiles + page · page_stride + kv_head ·
/// head_stride + j · shadow_tile_bytes (key_shadow.h); strides in bytes, multiples of 16, and
/// `tiles` aligned to 16. Pages are those of the cache: the request, where it has no table.
struct KeyShadowAddress {
  void* tiles = nullptr;
  std::int64_t page_stride = 0;
  std::int64_t head_stride = 0;
  KeyShadowFormat format;  ///< 4 bits in blocks of 32 or 64, or fp8
};

}  // namespace sift::cuda
