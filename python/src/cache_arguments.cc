#include "cache_arguments.h"

#include <bit>

#include "tensor_arguments.h"

namespace siftattention {
namespace {

int page_shift(std::int64_t page) {
  TORCH_CHECK_VALUE(page >= 16 && std::has_single_bit(static_cast<std::uint64_t>(page)),
                    "pages have ", page, " slots, expected a power of two of at least 16");
  return std::countr_zero(static_cast<std::uint64_t>(page));
}

}  // namespace

CacheDimensions parse_layout(std::string_view layout) {
  if (layout == "HND") return {1, 2};
  TORCH_CHECK_VALUE(layout == "NHD", "layout is '", layout, "', expected 'HND' or 'NHD'");
  return {2, 1};
}

void check_side(const Tensor& side, const char* name, at::Device device, std::int64_t head_dim,
                const char* where) {
  check_device(side, name, device, where);
  TORCH_CHECK_VALUE(side.dim() == 4, name, " has ", side.dim(), " dimensions, expected 4");
  TORCH_CHECK_VALUE(side.size(3) == head_dim, name, " has head dimension ", side.size(3),
                    ", expected ", head_dim, ", which the query has");
  TORCH_CHECK_VALUE(side.stride(3) == 1, name, " has stride ", side.stride(3),
                    " along the head dimension, expected 1");
  check_alignment(side, name, 16);
}

sift::cuda::CacheAddress address_of_keys(const Tensor& keys, std::int64_t batch,
                                         std::string_view layout, const PageTable& pages,
                                         const char* where) {
  const CacheDimensions dimensions = parse_layout(layout);
  const at::Device device = keys.device();
  sift::cuda::CacheAddress cache;
  cache.keys = keys.data_ptr();
  cache.page_stride = keys.stride(0) * keys.element_size();
  cache.head_stride = keys.stride(dimensions.head) * keys.element_size();
  cache.slot_stride = keys.stride(dimensions.slot) * keys.element_size();
  const std::optional<Tensor>& table = pages.table;
  if (!table.has_value()) {
    TORCH_CHECK_VALUE(!pages.begin.has_value(), "table_begin is given without a table");
    TORCH_CHECK_VALUE(keys.size(0) >= batch, "key_cache has ", keys.size(0),
                      " sequences, expected at least ", batch, ", one for each request");
    return cache;
  }
  cache.page_shift = page_shift(keys.size(dimensions.slot));
  const std::int64_t columns = table->dim() > 0 ? table->size(-1) : 0;
  if (pages.begin.has_value()) {
    check_array(*table, "table", device, at::kInt, {columns}, where);
    check_array(*pages.begin, "table_begin", device, at::kInt, {batch + 1}, where);
    cache.table_begin = pages.begin->data_ptr<std::int32_t>();
  } else {
    check_array(*table, "table", device, at::kInt, {batch, columns}, where);
    cache.table_stride = columns;
  }
  cache.table = table->data_ptr<std::int32_t>();
  return cache;
}

}  // namespace siftattention
