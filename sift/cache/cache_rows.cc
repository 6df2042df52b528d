#include "sift/cache/cache_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "sift/core/block_formats.h"
#include "sift/core/dequantise.h"
#include "sift/core/half.h"
#include "sift/core/key_shadow.h"

namespace sift {
namespace {

template <class Stored>
void write_plain(const float* source, int count, std::byte* row) {
  for (int i = 0; i < count; ++i) {
    const auto stored = static_cast<Stored>(source[i]);
    std::memcpy(row + static_cast<std::size_t>(i) * sizeof(Stored), &stored, sizeof(Stored));
  }
}

/// A block with a value that is not finite reads back as NaN, so that attention finds it.
BlockQ8_0 quantise_block(const float* source) {
  BlockQ8_0 block{};
  float highest = 0;
  bool finite = true;
  for (int i = 0; i < BlockQ8_0::kValues; ++i) {
    highest = std::max(highest, std::fabs(source[i]));
    finite = finite && std::isfinite(source[i]);
  }
  const float scale = highest / 127.0F;
  block.d = static_cast<Half>(finite ? scale : std::numeric_limits<float>::quiet_NaN());
  if (!finite || block.d == Half{0}) return block;
  const float inverse = 1.0F / scale;
  for (int i = 0; i < BlockQ8_0::kValues; ++i) {
    block.q[i] = static_cast<std::int8_t>(std::nearbyint(source[i] * inverse));
  }
  return block;
}

void write_q8_0(const float* source, int count, std::byte* row) {
  for (int i = 0; i < count; i += BlockQ8_0::kValues) {
    const BlockQ8_0 block = quantise_block(source + i);
    std::memcpy(row, &block, sizeof(block));
    row += sizeof(block);
  }
}

}  // namespace

void write_cache_row(DType type, const float* source, int count, std::byte* row) {
  switch (type) {
    case DType::f16:
      return write_plain<Half>(source, count, row);
    case DType::bf16:
      return write_plain<BFloat16>(source, count, row);
    case DType::q8_0:
      return write_q8_0(source, count, row);
    default:  // f32: KvCache admits no other
      std::memcpy(row, source, static_cast<std::size_t>(count) * sizeof(float));
  }
}

void read_cache_row(DType type, const std::byte* row, int count, float* destination) {
  dequantise(type, row, count, destination);
}

void write_sidecars(const Policy& policy, const CacheView& cache, int kv_head, std::int64_t slot) {
  if (!keeps_key_shadow(policy)) return;
  const int dim = cache.layout.head_dim;
  std::vector<float> key(static_cast<std::size_t>(dim));
  read_cache_row(cache.layout.type, cache.key_row(kv_head, slot), dim, key.data());
  write_key_shadow(key_shadow_format(policy, cache.layout.shadow_order), key.data(), dim,
                   cache.sidecar_row(Sidecar::key_shadow, kv_head, slot));
}

}  // namespace sift
