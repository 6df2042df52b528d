#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "sift/attention/policy.h"
#include "sift/core/key_shadow.h"

namespace sift {

/// What a policy keeps of every cached row beside its key and value, per layer and KV head. The
/// cache gives each kind room in its pages; backends write it when they append the row, and what
/// retention needs (sift/cache/retained_rows.h) when they attend.
enum class Sidecar : std::uint8_t {
  key_shadow,  ///< the key in few bits: sift/core/key_shadow.h
  position,    ///< std::int64_t: the row's position; −1 once it is evicted
  mass,        ///< double: attention that the row gathered, over the query heads of its KV head
};
inline constexpr std::size_t kSidecarCount = 3;

/// Bytes of one row's sidecar, by kind; 0 where there is none.
struct SidecarBytes {
  std::array<std::size_t, kSidecarCount> by_kind = {};

  std::size_t operator[](Sidecar kind) const { return by_kind[static_cast<std::size_t>(kind)]; }
  std::size_t& operator[](Sidecar kind) { return by_kind[static_cast<std::size_t>(kind)]; }
  std::size_t total() const;
};

/// What `policy` keeps. Throws Error (invalid_argument) for a head dimension that it cannot have.
SidecarBytes sidecar_bytes(const Policy& policy, int head_dim);

/// Whether `policy` keeps a shadow of the keys, and which, for keys whose codes take `order`.
bool keeps_key_shadow(const Policy& policy);
KeyShadowFormat key_shadow_format(const Policy& policy, ShadowOrder order);

}  // namespace sift
