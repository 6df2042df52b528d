#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

#include "sift/core/key_shadow.h"
#include "sift/kernels/cuda/cache_address.h"

namespace siftattention {

/// The format of shadows of keys [head_dim]: code "bits4" or "fp8", order "as_stored" or
/// "pairs_parted". Raises ValueError for what no kernel reads.
sift::KeyShadowFormat parse_shadow_format(std::string_view code, std::int64_t block,
                                          std::string_view order, std::int64_t head_dim);

/// Where the shadows of `keys` lie, in tiles [pages, kv_heads, tiles of a page, tile_bytes] of
/// uint8. Raises ValueError or TypeError for tiles that are not those of this cache.
sift::cuda::KeyShadowAddress address_of_shadows(const at::Tensor& tiles,
                                                const sift::KeyShadowFormat& format,
                                                const at::Tensor& keys, std::string_view layout);

}  // namespace siftattention
