#include "sift/cache/kv_cache.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <new>

#include "sift/core/error.h"

namespace sift {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

std::size_t checked_multiply(std::size_t a, std::size_t b) {
  std::size_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) throw std::bad_alloc();
  return product;
}

void check_layout(const CacheLayout& layout, std::int64_t capacity_rows) {
  const DType type = layout.type;
  if (type != DType::f32 && type != DType::f16 && type != DType::bf16 && type != DType::q8_0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("the KV cache cannot hold type {}; it takes f32, f16, bf16 or q8_0",
                            traits(type).name));
  }
  if (layout.layers < 1 || layout.kv_heads < 1 || layout.head_dim < 1 || capacity_rows < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("a KV cache of {} layers, {} KV heads, head dimension {} and {} rows "
                            "cannot be: all must be positive",
                            layout.layers, layout.kv_heads, layout.head_dim, capacity_rows));
  }
  if (layout.head_dim % traits(type).block_values != 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("a KV cache of type {} needs a head dimension that is a multiple of "
                            "{}, this one is {}",
                            traits(type).name, traits(type).block_values, layout.head_dim));
  }
}

/// Whole pages for `rows` rows, as many as page numbers can tell apart.
std::int64_t pages_for(std::int64_t rows) {
  const std::int64_t pages = rows / kPageRows + (rows % kPageRows != 0 ? 1 : 0);
  if (pages > std::numeric_limits<std::int32_t>::max()) throw std::bad_alloc();
  return pages;
}

/// Address space of `bytes` (a multiple of the huge page), aligned to huge pages. No memory is
/// taken and none is promised until it is touched.
std::byte* reserve_address_space(std::size_t bytes) {
  std::size_t padded = 0;
  if (__builtin_add_overflow(bytes, kHugePageBytes, &padded)) throw std::bad_alloc();
  void* mapped = mmap(nullptr, padded, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(mapped);
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(begin) % kHugePageBytes;
  const std::size_t head = misaligned == 0 ? 0 : kHugePageBytes - misaligned;
  if (head > 0) munmap(begin, head);
  munmap(begin + head + bytes, kHugePageBytes - head);
  return begin + head;
}

}  // namespace

KvCache::KvCache(const CacheLayout& layout, std::int64_t capacity_rows) : layout_(layout) {
  check_layout(layout, capacity_rows);
  page_count_ = pages_for(capacity_rows);
  if (page_count_ == 0) return;
  const std::size_t row_bytes = 2 * layout.row_bytes() + layout.sidecars.total();
  std::size_t bytes = checked_multiply(row_bytes, kPageRows);
  bytes = checked_multiply(bytes, static_cast<std::size_t>(layout.kv_heads));
  bytes = checked_multiply(bytes, static_cast<std::size_t>(layout.layers));
  bytes = checked_multiply(bytes, static_cast<std::size_t>(page_count_));
  const std::size_t huge_pages = bytes / kHugePageBytes + (bytes % kHugePageBytes != 0 ? 1 : 0);
  reserved_bytes_ = checked_multiply(huge_pages, kHugePageBytes);
  data_ = reserve_address_space(reserved_bytes_);
  // Advice only: where huge pages cannot be had, small ones do.
  madvise(data_, reserved_bytes_, MADV_HUGEPAGE);
}

KvCache::~KvCache() {
  if (data_ != nullptr) munmap(data_, reserved_bytes_);
}

std::size_t KvCache::matrix_bytes() const {
  return static_cast<std::size_t>(layout_.kv_heads) * kPageRows * layout_.row_bytes();
}

std::size_t KvCache::layer_bytes() const {
  const auto rows = static_cast<std::size_t>(layout_.kv_heads) * kPageRows;
  return 2 * matrix_bytes() + rows * layout_.sidecars.total();
}

std::size_t KvCache::page_bytes() const {
  return static_cast<std::size_t>(layout_.layers) * layer_bytes();
}

std::size_t KvCache::bytes_in_use() const {
  return static_cast<std::size_t>(page_count_ - free_pages()) * page_bytes();
}

std::int32_t KvCache::take_lowest_page() {
  // Pages given back are all lower than those never used.
  if (free_.empty()) return static_cast<std::int32_t>(fresh_++);
  std::ranges::pop_heap(free_, std::greater{});
  const std::int32_t page = free_.back();
  free_.pop_back();
  return page;
}

void KvCache::allocate_pages(std::int64_t count, std::vector<std::int32_t>& pages) {
  const std::int64_t needed = count - static_cast<std::int64_t>(pages.size());
  if (needed <= 0) return;
  if (needed > free_pages()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("the KV cache is full: {} more pages of {} rows are needed and {} of "
                            "{} are available",
                            needed, kPageRows, free_pages(), page_count_));
  }
  pages.reserve(static_cast<std::size_t>(count));
  // So that giving back, which destructors do, never needs memory.
  const auto used = static_cast<std::size_t>(page_count_ - free_pages() + needed);
  if (free_.capacity() < used) free_.reserve(2 * used);
  for (std::int64_t i = 0; i < needed; ++i) pages.push_back(take_lowest_page());
}

void KvCache::free_page(std::int32_t page) {
  free_.push_back(page);
  std::ranges::push_heap(free_, std::greater{});
}

void KvCache::free_pages_behind(std::int64_t count, std::vector<std::int32_t>& pages) {
  for (; std::ssize(pages) > count; pages.pop_back()) free_page(pages.back());
}

CacheView KvCache::view(int layer, std::span<const std::int32_t> pages) const {
  std::byte* keys = data_ + static_cast<std::size_t>(layer) * layer_bytes();
  std::byte* values = keys + matrix_bytes();
  return {layout_, pages.data(), keys, values, values + matrix_bytes(), page_bytes()};
}

}  // namespace sift
