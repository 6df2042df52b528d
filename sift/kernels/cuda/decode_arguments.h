#pragma once

#include <cstddef>
#include <cstdint>

#include "sift/kernels/cuda/method_state.h"

namespace sift::cuda {

/// How one request attends in a step.
using RequestMode = RowMode;

/// What a head outputs when no key passes.
enum class EmptyHead : std::uint8_t { zero, highest };

/// What stands in for the keys left out.
enum class Compensation : std::uint8_t { none, renormalise, mean };

/// Where the rows of a cache lie. Row `slot` of a page: base + page · page_stride + slot ·
/// slot_stride + kv_head · head_stride; strides in bytes, multiples of 16. So HND and NHD are two
/// choices of strides. The page of key i of request b is table[table_begin ? table_begin[b] + i /
/// page : b · table_stride + i / page]; without a table (contiguous caches) it is b, and page_shift
/// is 31. All rows of a side lie within 64 GiB of its base.
struct CacheAddress {
  const void* keys = nullptr;
  const void* values = nullptr;
  std::int64_t page_stride = 0;
  std::int64_t slot_stride = 0;
  std::int64_t head_stride = 0;
  int page_shift = 31;  ///< log2 of the keys of a page, at least 4
  const std::int32_t* table = nullptr;
  const std::int32_t* table_begin = nullptr;  ///< [batch]
  std::int64_t table_stride = 0;
};

/// What one sifted head did, for statistics and `adapt`.
struct StepHeadFacts {
  std::int32_t kept = 0;           ///< keys kept, forced ones included
  std::int32_t kept_eligible = 0;  ///< keys kept because their score passed
  float kept_mass = 0;             ///< softmax mass of the kept keys
  std::int32_t empty = 0;          ///< 1 when no key passed and none was forced
};

/// Rows of V that one group of heads read.
struct StepGroupFacts {
  std::int32_t rows = 0;
  std::int32_t rows_eligible = 0;
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
  const std::int32_t* lengths = nullptr;  ///< [batch] visible keys, at least 1
  /// The method's states, if the method runs here: modes and thresholds follow from them, and they
  /// take what the step did. `method.visible` must equal `lengths`. Without states (head_states is
  /// null) `modes` and `thresholds` say what to do.
  MethodStep method;
  /// Whether a request may be in RequestMode::record, so that quantiles have to be looked for. The
  /// host knows by counting; graphs without it cost nothing for the warm-up.
  bool records = false;
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
