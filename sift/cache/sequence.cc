#include <fmt/format.h>

#include <algorithm>

#include "sift/attention/retention.h"
#include "sift/cache/kv_cache.h"
#include "sift/core/error.h"

namespace sift {
namespace {

void check_sidecars(const CacheLayout& layout, const Policy& policy) {
  const SidecarBytes needed = sidecar_bytes(policy, layout.head_dim);
  for (std::size_t kind = 0; kind < kSidecarCount; ++kind) {
    const std::size_t had = layout.sidecars.by_kind[kind];
    if (needed.by_kind[kind] == 0 || needed.by_kind[kind] == had) continue;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("attention policy '{}' keeps {} bytes beside each cached row, but the "
                            "cache was made for {}",
                            policy.name, needed.by_kind[kind], had));
  }
}

std::int64_t pages_of(std::int64_t rows) { return (rows + kPageRows - 1) / kPageRows; }

}  // namespace

Sequence::Sequence(KvCache& cache, const Policy& policy, int heads)
    : cache_(cache),
      attention_(policy, AttentionShape{cache.layout().layers, heads, cache.layout().kv_heads,
                                        cache.layout().head_dim}) {
  check_sidecars(cache.layout(), policy);
}

Sequence::~Sequence() {
  for (const std::int32_t page : pages_) cache_.free_page(page);
}

void Sequence::reserve(std::int64_t rows) { cache_.allocate_pages(pages_of(rows_ + rows), pages_); }

void Sequence::commit(std::int64_t rows, std::int64_t generated) {
  length_ += rows;
  rows_ += rows;
  generated_ += generated;
  // What attend evicted: a prompt's rows all stay until the first row after it.
  if (generated == 0) return;
  rows_ = std::min(rows_, retained_rows(attention_.policy(), length_));
  cache_.free_pages_behind(pages_of(rows_), pages_);
}

CacheView Sequence::view(int layer) const {
  CacheView view = cache_.view(layer, pages_);
  view.rows = rows_;
  return view;
}

}  // namespace sift
