#pragma once

// The method on the device: what AttentionState does on the host, on states that live beside the
// cache. One thread calls each of these functions once for its head; they are calls, not inlined,
// so that their double precision costs an attention kernel no registers. A kernel declares its
// MethodStep `const __grid_constant__`, otherwise every call copies it. What says how a request
// attends is read past the first-level cache: kernels read it before they wait for the one before.

#include "sift/kernels/cuda/method_state.h"

namespace sift::cuda {

inline constexpr double kLog2E = 1.4426950408889634074;
inline constexpr double kLn2 = 0.69314718055994530942;

__device__ inline RowIdentity row_identity(const MethodStep& step, int request) {
  return {__ldcg(step.visible + request), __ldcg(step.generated + request)};
}

__device__ inline MethodOptions request_options(const MethodStep& step, int request) {
  MethodOptions options = step.options;
  if (step.taus != nullptr) options.tau = __ldcg(step.taus + request);
  if (step.decode_records != nullptr)
    options.decode_records = __ldcg(step.decode_records + request);
  return options;
}

/// How a request attends in this step.
__device__ inline RowMode request_mode(const MethodStep& step, int request) {
  if (step.modes != nullptr) {
    return static_cast<RowMode>(
        __ldcg(reinterpret_cast<const unsigned char*>(step.modes) + request));
  }
  return generated_row_mode(request_options(step, request), row_identity(step, request));
}

__device__ inline int request_slot(const MethodStep& step, int request) {
  return step.slots == nullptr ? request : step.slots[request];
}

__device__ inline HeadMethodState& head_state(const MethodStep& step, int request, int head) {
  const std::int64_t slot = request_slot(step, request);
  return step.head_states[slot * step.heads + head];
}

__device__ inline GroupMethodState& group_state(const MethodStep& step, int request, int kv_head) {
  const std::int64_t slot = request_slot(step, request);
  return step.group_states[slot * step.kv_heads + kv_head];
}

/// log2 η of a request that sifts. Attention kernels take it inline, so it costs them one
/// logarithm; that is in single precision, which is wrong by less than scores are rounded.
__device__ inline float log2_threshold(const MethodStep& step, int request, int head) {
  const HeadState& state = head_state(step, request, head).head;
  const float log2_keys = log2f(static_cast<float>(step.visible[request]));
  return static_cast<float>((state.law.ln_alpha + state.correction) * kLog2E -
                            state.law.beta * log2_keys);
}

/// Takes the recorded quantile of a request that records. The law is fitted at once, so that steps
/// that sift only read it.
__device__ __noinline__ inline void record(const MethodStep& step, int request, int head,
                                           double ln_theta) {
  HeadState& state = head_state(step, request, head).head;
  state.fit.add(step.visible[request], ln_theta);
  state.law = state.fit.solve(step.options.fit);
  state.fitted = true;
}

/// Takes what a sifted row did with one query head.
__device__ __noinline__ inline void observe_head(const MethodStep& step, int request, int head,
                                                 const sift::HeadFacts& facts) {
  const MethodOptions options = request_options(step, request);
  const RowIdentity row = row_identity(step, request);
  HeadMethodState& state = head_state(step, request, head);
  if (!state.head.fitted) {  // nothing was ever recorded
    state.head.law = state.head.fit.solve(options.fit);
    state.head.fitted = true;
  }
  count_sifted(options, row, facts, state.tally);
  if (options.adapt_target == AdaptTarget::head) {
    correct(state.head, adapt_step(options, row, facts.kept_eligible));
  }
}

/// Takes what a sifted row did with one KV head. The thresholds of the group's heads must have been
/// taken before.
__device__ __noinline__ inline void observe_group(const MethodStep& step, int request, int kv_head,
                                                  const sift::GroupFacts& facts) {
  const MethodOptions options = request_options(step, request);
  const RowIdentity row = row_identity(step, request);
  count_sifted(options, row, facts, group_state(step, request, kv_head).tally);
  if (options.adapt_target == AdaptTarget::head) return;
  const double change = adapt_step(options, row, facts.union_eligible);
  const int group = step.heads / step.kv_heads;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    correct(head_state(step, request, head).head, change);
  }
}

/// Takes a generated row that ran dense (dense or record mode, or by the gate), for one KV head and
/// its query heads.
__device__ __noinline__ inline void observe_dense(const MethodStep& step, int request,
                                                  int kv_head) {
  const RowIdentity row = row_identity(step, request);
  if (row.generated == 0) return;
  const MethodOptions options = request_options(step, request);
  count_dense(options, row, group_state(step, request, kv_head).tally);
  const int group = step.heads / step.kv_heads;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    count_dense(options, row, head_state(step, request, head).tally);
  }
}

}  // namespace sift::cuda
