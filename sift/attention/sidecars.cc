#include "sift/attention/sidecars.h"

#include <numeric>

namespace sift {

std::size_t SidecarBytes::total() const {
  return std::accumulate(by_kind.begin(), by_kind.end(), std::size_t{0});
}

SidecarBytes sidecar_bytes(const Policy& policy, int head_dim) {
  SidecarBytes bytes;
  if (keeps_key_shadow(policy)) {
    bytes[Sidecar::key_shadow] = key_shadow_row_bytes({policy.bits, policy.block}, head_dim);
  }
  if (evicts(policy)) bytes[Sidecar::position] = sizeof(std::int64_t);
  if (policy.retain == Retain::heavy_hitters) bytes[Sidecar::mass] = sizeof(double);
  return bytes;
}

bool keeps_key_shadow(const Policy& policy) {
  return policy.select != Select::all && policy.estimate == Estimate::quantised;
}

KeyShadowFormat key_shadow_format(const Policy& policy, ShadowOrder order) {
  return {policy.bits, policy.block, order};
}

}  // namespace sift
