#include "sift/eval/attention_json.h"

#include <optional>

namespace sift {
namespace {

nlohmann::ordered_json optional_json(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

}  // namespace

nlohmann::ordered_json attention_json(const Policy& policy, const AttentionTotals& totals) {
  const AttentionStatistics s = totals.summary();
  return {{"policy", policy.name},
          {"realised_sparsity", optional_json(s.realised_sparsity)},
          {"realised_sparsity_after_warmup", optional_json(s.realised_sparsity_after_warmup)},
          {"union_density", optional_json(s.union_density)},
          {"kept_mass", optional_json(s.kept_mass)},
          {"candidate_density", optional_json(s.candidate_density)},
          {"missed_keys", optional_json(s.missed_keys)},
          {"output_error", optional_json(s.output_error)},
          {"k_bytes_read", s.k_bytes_read},
          {"k_bytes_dense", s.k_bytes_dense},
          {"v_bytes_read", s.v_bytes_read},
          {"v_bytes_dense", s.v_bytes_dense},
          {"sparse_steps", s.sparse_steps},
          {"dense_steps", s.dense_steps},
          {"degenerate_fits", s.degenerate_fits},
          {"ill_determined", s.ill_determined},
          {"empty_steps", s.empty_steps}};
}

}  // namespace sift
