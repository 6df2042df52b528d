#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "sift/kernels/cuda/cache_address.h"

namespace siftattention {

/// Which dimension of a cache holds what.
struct CacheDimensions {
  int head;
  int slot;
};

/// Of the layout "HND" or "NHD". Raises ValueError for other words.
CacheDimensions parse_layout(std::string_view layout);

/// Where the pages of a batch are told: `table` is [batch, pages] or, with `begin` [batch + 1],
/// [pages]; without it requests lie in one piece each.
struct PageTable {
  const std::optional<at::Tensor>& table;
  const std::optional<at::Tensor>& begin;
};

/// That one side of a cache lies on `device`, which is that of `where`, and consists of rows of
/// `head_dim` neighbouring values.
void check_side(const at::Tensor& side, const char* name, at::Device device, std::int64_t head_dim,
                const char* where);

/// Where the rows of `keys` lie; those of values lie the same way from another base, which is left
/// null. Raises ValueError or TypeError.
sift::cuda::CacheAddress address_of_keys(const at::Tensor& keys, std::int64_t batch,
                                         std::string_view layout, const PageTable& pages,
                                         const char* where);

}  // namespace siftattention
