#pragma once

#include <cstdint>

#include "sift/attention/method_rules.h"

namespace sift::cuda {

/// All that one query head of one request carries in one layer. All bits zero are a fresh state.
struct HeadMethodState {
  HeadState head;
  HeadTally tally;
};

/// The same of one KV head.
struct GroupMethodState {
  GroupTally tally;
};

/// What one step of one layer needs to know of the method. Pointers are to device memory, and what
/// they point at may change between replays of a graph. States live beside the cache: a request
/// keeps its slot, whatever its place in the batch.
struct MethodStep {
  MethodOptions options;  ///< of all requests, but for what the arrays below replace
  int heads = 0;
  int kv_heads = 0;
  HeadMethodState* head_states = nullptr;    ///< [slots, heads]
  GroupMethodState* group_states = nullptr;  ///< [slots, kv_heads]

  const std::int32_t* slots = nullptr;      ///< [batch]; null: request b has slot b
  const std::int32_t* visible = nullptr;    ///< [batch] S, the row's own key included
  const std::int32_t* generated = nullptr;  ///< [batch] 1 for the first row after the prompt
  const double* taus = nullptr;             ///< [batch]; null: options.tau
  /// [batch] generated rows that record: the warm-up, or 0 where the prompt calibrated; null:
  /// options.decode_records.
  const std::int32_t* decode_records = nullptr;
  const RowMode* modes = nullptr;  ///< [batch]; null: what follows from the counts
  /// [batch, heads] where the ln θ of requests that record go; null: to the fits. For rows that
  /// share states, whose records have to be added in order.
  double* ln_thetas = nullptr;
};

}  // namespace sift::cuda
