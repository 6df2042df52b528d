#include "sift/cache/kv_cache.h"

namespace sift {

Sequence::Sequence(KvCache& cache, const Policy& policy, int heads)
    : cache_(cache),
      attention_(policy, AttentionShape{cache.layout().layers, heads, cache.layout().kv_heads,
                                        cache.layout().head_dim}) {}

Sequence::~Sequence() {
  for (const std::int32_t page : pages_) cache_.free_page(page);
}

void Sequence::reserve(std::int64_t rows) {
  const std::int64_t last = length_ + rows;
  cache_.allocate_pages((last + kPageRows - 1) / kPageRows, pages_);
}

void Sequence::commit(std::int64_t rows, std::int64_t generated) {
  length_ += rows;
  generated_ += generated;
}

}  // namespace sift
