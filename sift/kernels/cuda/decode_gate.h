#pragma once

#include <cmath>
#include <cstdint>

namespace sift::cuda {

// Where decode attention should run exactly though a policy sifts (`gate=auto`).
//
// A caller decides before it captures or launches a step, from what it knows without asking the
// device, and sets DecodeArguments::gated; nothing decides inside a graph. The rule is measured
// (one H100, f16, pages of 16; bench/results/README.md): of the cells measured it says yes only to
// those where sifting took at most 1.03 times as long as this library's own exact attention. It may
// be overridden by leaving `gated` alone. Quality is always measured with the gate off.

/// One call, of one layer. REQUIRES: kv_heads ≥ 1, and heads a multiple of it.
struct GateShape {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  std::int64_t keys = 0;   ///< that all requests see together
  bool estimates = false;  ///< scores are estimated from shadows first
};

/// The share of V that a group of heads reads if each head keeps a share 1 − τ of the keys and
/// heads are independent. Heads of models agree more than that, so this is the worst case; what a
/// model really reads is in StepGroupFacts.
inline double independent_union(double tau, int group) { return 1 - std::pow(tau, group); }

/// The greatest share of V (with estimates, of K and V) up to which sifting pays.
inline double paying_union(const GateShape& shape) {
  constexpr double kNever = -1;
  const int group = shape.heads / shape.kv_heads;
  const std::int64_t rows = shape.keys * shape.kv_heads;  // of K
  // With eight KV heads: one request of 8192 keys, eight of them, eight of 32768.
  constexpr std::int64_t kFew = std::int64_t{1} << 16;
  constexpr std::int64_t kMany = std::int64_t{1} << 19;
  constexpr std::int64_t kVeryMany = std::int64_t{1} << 21;
  if (group > 8) return kNever;
  if (group > 4) return rows >= kVeryMany ? 0.35 : kNever;
  if (shape.estimates) return shape.head_dim >= 96 && rows >= kMany ? 0.42 : kNever;
  if (rows >= kMany) return 0.69;
  return rows >= kFew ? 0.42 : kNever;
}

/// Whether sifting is not slower than exact attention where heads of a group together read the
/// share `union_density` of V.
inline bool sifting_pays(const GateShape& shape, double union_density) {
  return union_density <= paying_union(shape);
}

}  // namespace sift::cuda
