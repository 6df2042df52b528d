#pragma once

// What the tests of decode attention over estimated scores share.

#include <cmath>
#include <string>
#include <vector>

#include "sift/kernels/cpu/attend_decode_fixture.h"
#include "sift/kernels/reference/reference_attention.h"

namespace sift::cpu {

inline Policy estimating(ShadowCode bits, std::int64_t block, double margin = 0.5) {
  Policy policy = sift_policy();
  policy.estimate = Estimate::quantised;
  policy.bits = bits;
  policy.block = block;
  policy.margin = margin;
  return policy;
}

inline std::vector<Policy> every_shadow(double margin = 0.5) {
  return {estimating(ShadowCode::bits4, 16, margin), estimating(ShadowCode::bits4, 32, margin),
          estimating(ShadowCode::bits4, 64, margin), estimating(ShadowCode::fp8, 32, margin)};
}

/// What one row came to.
struct Outcome {
  std::vector<float> output;  // [heads, dim]
  AttentionTotals totals;
};

inline Outcome by_reference(Fixture& fixture, const Policy& policy, double ln_eta) {
  const auto state = state_at(fixture, policy, ln_eta);
  Outcome outcome;
  outcome.output.resize(fixture.query().size());
  reference::attend_row(*state, 0, fixture.view(), sifted_row(fixture), fixture.query(),
                        outcome.output);
  outcome.totals = state->totals(1);
  return outcome;
}

/// Scores of the shadows of a head's keys.
inline std::vector<double> estimates_of(Fixture& fixture, const Policy& policy, int head) {
  const int dim = fixture.dim();
  std::vector<float> key(static_cast<std::size_t>(dim));
  std::vector<double> scores(static_cast<std::size_t>(fixture.keys()), 0.0);
  for (std::int64_t slot = 0; slot < fixture.keys(); ++slot) {
    read_key_shadow(key_shadow_format(policy, fixture.view().layout.shadow_order),
                    fixture.view().sidecar_row(Sidecar::key_shadow, head / fixture.group(), slot),
                    dim, key.data());
    for (int d = 0; d < dim; ++d) {
      scores[slot] += static_cast<double>(fixture.query()[head * dim + d]) * key[d];
    }
    scores[slot] /= std::sqrt(static_cast<double>(dim));
  }
  return scores;
}

inline Shape with_shadows(Shape shape = {}) {
  shape.shadows = true;
  return shape;
}

}  // namespace sift::cpu
