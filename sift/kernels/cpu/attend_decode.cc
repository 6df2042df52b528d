#include "sift/kernels/cpu/attend_decode.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "sift/core/error.h"
#include "sift/kernels/cpu/attend_decode_pass.h"
#include "sift/kernels/cpu/retained_step.h"

namespace sift::cpu {
namespace {

constexpr double kLog2E = 1.44269504088896340736;

// Keys of all KV heads below which one thread is quicker than waking another.
constexpr std::int64_t kKeysForThreads = 512;

void check_row(const CacheView& cache, const RowIdentity& row) {
  if (row.visible < 1) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("attention over {} visible keys: a row sees at least its own", row.visible));
  }
  if (cache.layout.head_dim < 1 || cache.layout.head_dim % 16 != 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("the cpu backend attends with head dimensions that are multiples of "
                            "16, this one is {}",
                            cache.layout.head_dim));
  }
}

RowMode gated_mode(const AttentionState& state, const RowIdentity& row) {
  const RowMode mode = state.mode(row);
  const bool gated = mode == RowMode::sift && state.policy().gate == Gate::automatic &&
                     row.visible < kSiftGateMinimum;
  return gated ? RowMode::dense : mode;
}

// Values in the order of a shadow's codes, and for 4 bits of each 32 the even ones before the odd
// ones, as DecodeKernels::score_shadow takes them.
void order_query(const AttentionShape& shape, ShadowOrder order, ShadowCode code,
                 const float* query, float* ordered) {
  const int dim = shape.head_dim;
  for (int head = 0; head < shape.heads; ++head, query += dim, ordered += dim) {
    for (int i = 0; i < dim; ++i) {
      const int place = code == ShadowCode::fp8 ? i : i / 32 * 32 + i % 2 * 16 + i % 32 / 2;
      ordered[place] = query[shadowed_value(order, dim, i)];
    }
  }
}

void scale_query(const AttentionShape& shape, const float* query, float* scaled) {
  const double scale = kLog2E / std::sqrt(static_cast<double>(shape.head_dim));
  for (int i = 0; i < shape.heads * shape.head_dim; ++i) {
    scaled[i] = static_cast<float>(query[i] * scale);
  }
}

void check_scores(const DecodeWorkspace& workspace, const AttentionShape& shape, int layer) {
  for (int head = 0; head < shape.heads; ++head) {
    if (workspace.plans[head].not_finite) {
      throw Error(ErrorKind::numerical,
                  fmt::format("an attention score of layer {}, head {} is NaN or +Inf, expected "
                              "finite scores",
                              layer, head));
    }
    if (workspace.plans[head].all_minus_infinity) {
      throw Error(ErrorKind::numerical,
                  fmt::format("every attention score of layer {}, head {} is -Inf, expected a "
                              "finite one",
                              layer, head));
    }
  }
}

void observe_sifted(AttentionState& state, int layer, const RowIdentity& row,
                    const DecodeWorkspace& workspace) {
  const int group = state.shape().group_size();
  for (int kv_head = 0; kv_head < state.shape().kv_heads; ++kv_head) {
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      state.observe_head(layer, head, row, workspace.facts[head]);
    }
    state.observe_group(layer, kv_head, row, workspace.group_facts[kv_head]);
  }
}

void observe(AttentionState& state, int layer, const RowIdentity& row, RowMode mode,
             const DecodeWorkspace& workspace) {
  if (mode == RowMode::sift) {
    observe_sifted(state, layer, row, workspace);
    return;
  }
  for (int head = 0; mode == RowMode::record && head < state.shape().heads; ++head) {
    state.record(layer, head, row, workspace.ln_thetas[head]);
  }
  if (row.generated > 0) state.observe_dense(layer, row);
}

int threads_for(const AttentionShape& shape, std::int64_t keys) {
  return keys * shape.kv_heads <= kKeysForThreads ? 1 : omp_get_max_threads();
}

void attend_retained(AttentionState& state, int layer, const CacheView& cache,
                     const RowIdentity& row, const float* query, float* output,
                     DecodeWorkspace& workspace) {
  RetainedStep step(state, layer, cache, row);
  const std::int64_t keys = step.begin();
  const int threads = threads_for(state.shape(), keys);
  workspace.ensure(state.shape(), keys, RowMode::record, threads);
  scale_query(state.shape(), query, workspace.query.data());
  DecodePass(state, layer, cache, keys, RowMode::dense, output, workspace).run(threads);
  check_scores(workspace, state.shape(), layer);
  step.finish(threads, workspace);
}

}  // namespace

void check_decode_policy(const Policy& policy) {
  if (!keeps_key_shadow(policy)) return;
  if (policy.bits == ShadowCode::bits4 || policy.bits == ShadowCode::fp8) return;
  throw Error(
      ErrorKind::invalid_argument,
      fmt::format("the cpu backend decodes with bits=4 and bits=fp8, not with the bits={} of "
                  "attention policy '{}': that runs on the reference backend and in "
                  "evaluations layer by layer",
                  code_bits(policy.bits), policy.name));
}

void attend_decode(AttentionState& state, int layer, const CacheView& cache, const RowIdentity& row,
                   const float* query, float* output, DecodeWorkspace& workspace) {
  check_row(cache, row);
  check_decode_policy(state.policy());
  if (evicts(state.policy())) {
    attend_retained(state, layer, cache, row, query, output, workspace);
    return;
  }
  const AttentionShape& shape = state.shape();
  const RowMode mode = gated_mode(state, row);
  const int threads = threads_for(shape, row.visible);
  workspace.ensure(shape, row.visible, mode, threads);
  scale_query(shape, query, workspace.query.data());
  if (mode == RowMode::sift && keeps_key_shadow(state.policy())) {
    order_query(shape, cache.layout.shadow_order, state.policy().bits, workspace.query.data(),
                workspace.shadow_query.data());
  }
  const bool has_thresholds = mode == RowMode::sift && state.policy().select == Select::above;
  for (int head = 0; has_thresholds && head < shape.heads; ++head) {
    workspace.ln_thresholds[head] = state.ln_threshold(layer, head, row);
  }
  DecodePass pass(state, layer, cache, row.visible, mode, output, workspace);
  pass.run(threads);
  check_scores(workspace, shape, layer);
  observe(state, layer, row, mode, workspace);
}

}  // namespace sift::cpu
