#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/kernels/cuda/cache_address.h"
#include "sift/kernels/cuda/method_state.h"

namespace sift::cuda {

/// How one request attends in a step.
using RequestMode = RowMode;

/// What a head outputs when no key passes.
enum class EmptyHead : std::uint8_t { zero, highest };

/// What stands in for the keys left out.
enum class Compensation : std::uint8_t { none, renormalise, mean };

/// What one sifted head did, for statistics and `adapt`.
struct StepHeadFacts {
  std::int32_t kept = 0;           ///< keys kept, forced ones included
  std::int32_t kept_eligible = 0;  ///< keys kept because their score passed
  float kept_mass = 0;             ///< softmax mass of the kept keys
  std::int32_t empty = 0;          ///< 1 when no key passed and none was forced
};

/// Rows that one group of heads read.
struct StepGroupFacts {
  std::int32_t rows = 0;           ///< of V: kept by any head
  std::int32_t rows_eligible = 0;  ///< of them, those not forced
  std::int32_t candidates = 0;     ///< of K after an estimate: candidates of any head
};

/// All that one step of decode attention reads and writes. Pointers are to device memory.
struct DecodeArguments {
  int batch = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;  ///< of scores, usually 1 / √head_dim

  const void* query = nullptr;   ///< [batch, heads, head_dim]
  void* output = nullptr;        ///< [batch, heads, head_dim]
  float* log_sum_exp = nullptr;  ///< [batch, heads], base 2; may be null
  CacheAddress cache;
  /// Where requests that sift estimate their scores: for all keys from shadows, and then exactly
  /// for the candidates, ŝ > ln η + LSE(ŝ) − margin (docs/method.md). Without tiles scores are
  /// exact.
  KeyShadowAddress shadows;
  float margin = 0;                       ///< in natural logarithms
  const std::int32_t* lengths = nullptr;  ///< [batch] visible keys, at least 1
  /// The method's states, if the method runs here: modes and thresholds follow from them, and they
  /// take what the step did. `method.visible` must equal `lengths`. Without states (head_states is
  /// null) `modes` and `thresholds` say what to do.
  MethodStep method;
  /// Whether a request may be in RequestMode::record, so that quantiles have to be looked for. The
  /// host knows by counting; graphs without it cost nothing for the warm-up.
  bool records = false;
  /// Whether a request may attend exactly (RequestMode::dense or record). Where the host knows that
  /// none does, a step has a launch less; such a request would end it with a trap.
  bool exact = true;
  /// Whether requests that would sift attend exactly in this launch, because sifting would be
  /// slower (decode_gate.h). The method's states count such steps as dense.
  bool gated = false;
  const RequestMode* modes = nullptr;  ///< [batch]; null: all dense
  const float* thresholds = nullptr;   ///< [batch, heads] log2 η, for sift
  const float* value_means = nullptr;  ///< [batch, kv_heads, head_dim], for Compensation::mean

  Compensation compensation = Compensation::none;
  EmptyHead empty = EmptyHead::highest;
  int sink = 0;
  int recent = 0;

  StepHeadFacts* head_facts = nullptr;    ///< [batch, heads]; may be null
  StepGroupFacts* group_facts = nullptr;  ///< [batch, kv_heads]; may be null
};

}  // namespace sift::cuda
