#pragma once

#include <cstdint>
#include <vector>

#include "sift/attention/attention_state.h"
#include "sift/cache/retained_rows.h"
#include "sift/kernels/cpu/attend_decode_workspace.h"

namespace sift::cpu {

/// What one decode row of a policy that evicts does besides attending: before, the rows that stay
/// are brought into the first slots; afterwards they gather mass, and rows leave.
class RetainedStep {
 public:
  /// The row's own key and value are in slot cache.rows.
  RetainedStep(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row);

  /// Returns over how many rows, its own included, the row attends: they fill the first slots.
  std::int64_t begin();
  /// Takes the scores that a dense DecodePass left in the workspace, and overwrites them.
  void finish(int threads, DecodeWorkspace& workspace);

 private:
  void gather_mass(RetainedRows& rows, int kv_head, DecodeWorkspace& workspace) const;
  void observe(std::int64_t attended);

  AttentionState& state_;
  int layer_;
  RowIdentity row_;
  std::vector<RetainedRows> rows_;  // [kv_heads]
};

}  // namespace sift::cpu
