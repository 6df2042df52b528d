#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sift/attention/attention_state.h"
#include "sift/attention/sidecars.h"
#include "sift/core/dtype.h"

namespace sift {

/// Rows per page of the cache.
inline constexpr std::int64_t kPageRows = 64;

struct CacheLayout {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;            ///< a multiple of 32 for q8_0
  DType type = DType::f16;     ///< f32, f16, bf16 or q8_0
  SidecarBytes sidecars = {};  ///< of each row of each KV head: what policies keep beside it
  /// Order of the codes of key shadows: pairs_parted where the rotary embedding turns neighbours.
  ShadowOrder shadow_order = ShadowOrder::as_stored;

  /// Bytes of one K or V row of one KV head.
  std::size_t row_bytes() const { return sift::row_bytes(type, head_dim); }
};

/// One layer of one sequence's cache as kernels see it. Rows are addressed by slot: page
/// slot / kPageRows of the sequence's block table, row slot % kPageRows inside it. A page holds all
/// of its rows: their keys, values and sidecars in all layers, so that who copies or frees a page
/// copies or frees those too.
struct CacheView {
  CacheLayout layout;
  const std::int32_t* pages = nullptr;  ///< block table of the sequence
  std::byte* keys = nullptr;            ///< this layer's K of page 0 [kv_head, kPageRows, head_dim]
  std::byte* values = nullptr;          ///< the same for V
  std::byte* sidecars = nullptr;        ///< the same for each sidecar, one after the other
  std::size_t page_stride = 0;          ///< bytes from one page's rows to the next page's
  std::int64_t rows = 0;  ///< rows that fill slots 0 … rows − 1 before those of the batch at hand

  /// First row of page number `block` of the sequence: kPageRows rows follow contiguously.
  std::byte* key_page(int kv_head, std::int64_t block) const {
    return keys + page_offset(kv_head, block, layout.row_bytes());
  }
  std::byte* value_page(int kv_head, std::int64_t block) const {
    return values + page_offset(kv_head, block, layout.row_bytes());
  }
  std::byte* sidecar_page(Sidecar kind, int kv_head, std::int64_t block) const {
    return sidecars + sidecar_offset(kind) + page_offset(kv_head, block, layout.sidecars[kind]);
  }
  std::byte* key_row(int kv_head, std::int64_t slot) const {
    return key_page(kv_head, slot / kPageRows) + row_in_page(slot, layout.row_bytes());
  }
  std::byte* value_row(int kv_head, std::int64_t slot) const {
    return value_page(kv_head, slot / kPageRows) + row_in_page(slot, layout.row_bytes());
  }
  std::byte* sidecar_row(Sidecar kind, int kv_head, std::int64_t slot) const {
    return sidecar_page(kind, kv_head, slot / kPageRows) + row_in_page(slot, layout.sidecars[kind]);
  }

 private:
  std::size_t page_offset(int kv_head, std::int64_t block, std::size_t row_bytes) const {
    const auto page = static_cast<std::size_t>(pages[block]);
    return page * page_stride + static_cast<std::size_t>(kv_head) * (kPageRows * row_bytes);
  }
  static std::size_t row_in_page(std::int64_t slot, std::size_t row_bytes) {
    return static_cast<std::size_t>(slot % kPageRows) * row_bytes;
  }
  /// Bytes of the kinds before `kind` in a page.
  std::size_t sidecar_offset(Sidecar kind) const {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(kind); ++i) {
      bytes += layout.sidecars.by_kind[i];
    }
    return bytes * kPageRows * static_cast<std::size_t>(layout.kv_heads);
  }
};

/// The pool of cache pages that sequences share. Address space is reserved for all pages at once;
/// memory is taken as rows are written: a page holds the rows of all layers, and the lowest free
/// page is used first, so what is resident follows the most pages that were ever in use at once,
/// rounded up once (not for every layer) to a huge page of 2 MiB.
class KvCache {
 public:
  /// Room for `capacity_rows` tokens, rounded up to whole pages. Throws Error (invalid_argument)
  /// for a type or sizes that caches cannot have, std::bad_alloc when the address space cannot be
  /// had.
  KvCache(const CacheLayout& layout, std::int64_t capacity_rows);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const CacheLayout& layout() const { return layout_; }
  std::int64_t page_count() const { return page_count_; }
  std::int64_t free_pages() const {
    return page_count_ - fresh_ + static_cast<std::int64_t>(free_.size());
  }
  /// Bytes of K, V and sidecars of all layers that pages in use take.
  std::size_t bytes_in_use() const;

  /// Appends pages to `pages` until it holds `count`. Throws Error (invalid_argument) that names
  /// the pages needed and available when there are too few, and then takes none.
  void allocate_pages(std::int64_t count, std::vector<std::int32_t>& pages);
  void free_page(std::int32_t page);
  /// Gives the last pages of `pages` back until `count` are left.
  void free_pages_behind(std::int64_t count, std::vector<std::int32_t>& pages);
  CacheView view(int layer, std::span<const std::int32_t> pages) const;

 private:
  std::int32_t take_lowest_page();
  std::size_t matrix_bytes() const;  ///< K (or V) of one page and layer
  std::size_t layer_bytes() const;   ///< K, V and sidecars of one page and layer
  std::size_t page_bytes() const;    ///< the same of all layers

  CacheLayout layout_;
  std::int64_t page_count_ = 0;
  std::int64_t fresh_ = 0;          ///< pages from here on were never used
  std::vector<std::int32_t> free_;  ///< pages given back, a heap with the lowest on top
  /// [pages, layers, (K, V, each sidecar), kv_heads, kPageRows, bytes of a row]
  std::byte* data_ = nullptr;
  std::size_t reserved_bytes_ = 0;
};

/// One request's rows in the cache and the state that its policy carries beside them. Where the
/// policy evicts, the rows that stay fill the first slots, as many in every layer and KV head but
/// not the same ones, and pages that they leave empty are given back.
class Sequence {
 public:
  /// Throws Error (invalid_argument) for a policy that the cache has no room for: its layout lacks
  /// the sidecars that the policy keeps.
  Sequence(KvCache& cache, const Policy& policy, int heads);
  ~Sequence();
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  /// Makes room for `rows` more rows. Throws as KvCache::allocate_pages.
  void reserve(std::int64_t rows);
  /// Counts `rows` rows as written and attended, the last `generated` of them after the prompt.
  void commit(std::int64_t rows, std::int64_t generated);

  std::int64_t length() const { return length_; }        ///< rows so far: the next one's position
  std::int64_t rows() const { return rows_; }            ///< of them cached: the next one's slot
  std::int64_t generated() const { return generated_; }  ///< of them after the prompt
  CacheView view(int layer) const;
  AttentionState& attention() { return attention_; }
  const AttentionState& attention() const { return attention_; }
  const KvCache& cache() const { return cache_; }

 private:
  KvCache& cache_;
  std::vector<std::int32_t> pages_;
  std::int64_t length_ = 0;
  std::int64_t rows_ = 0;
  std::int64_t generated_ = 0;
  AttentionState attention_;
};

}  // namespace sift
