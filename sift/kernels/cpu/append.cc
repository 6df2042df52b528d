#include "sift/kernels/cpu/append.h"

#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/kernels/cpu/cache_row_kernels.h"

namespace sift::cpu {

void append_rows(const CacheView& cache, AttentionState& state, int layer, std::int64_t first_slot,
                 std::int64_t count, const float* keys, const float* values) {
  const CacheLayout& layout = cache.layout;
  const int dim = layout.head_dim;
  std::vector<float> stored(static_cast<std::size_t>(dim));
  for (std::int64_t row = 0; row < count; ++row) {
    for (int kv_head = 0; kv_head < layout.kv_heads; ++kv_head) {
      const std::int64_t offset = (row * layout.kv_heads + kv_head) * dim;
      store_row(layout.type, keys + offset, dim, cache.key_row(kv_head, first_slot + row));
      write_sidecars(state.policy(), cache, kv_head, first_slot + row);
      std::byte* const value_row = cache.value_row(kv_head, first_slot + row);
      store_row(layout.type, values + offset, dim, value_row);
      expand_rows(layout.type, value_row, 1, dim, stored.data(), 0);
      add_to_sums(stored.data(), dim, state.value_sum(layer, kv_head));
    }
  }
}

}  // namespace sift::cpu
