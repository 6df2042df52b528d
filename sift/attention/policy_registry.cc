#include "sift/attention/policy_registry.h"

#include <array>

namespace sift {
namespace {

Policy plain_sift() {
  Policy policy;
  policy.select = Select::above;
  policy.tau = 0.875;
  policy.warmup = 64;
  policy.compensate = Compensate::mean;
  policy.calibrate = Calibrate::prefill;
  policy.fit = FitKind::ridge;
  policy.adapt = 0.05;
  policy.adapt_target = AdaptTarget::head;
  policy.sink = 0;
  policy.recent = 0;
  policy.dense_rows = 0;
  policy.gate = Gate::automatic;
  policy.empty = EmptyRow::highest;
  return policy;
}

// Exactly the paper: algorithms 1 and 2, section 5.
Policy paper_sift() {
  Policy policy;
  policy.select = Select::above;
  policy.tau = 0.875;
  policy.warmup = 128;
  policy.compensate = Compensate::none;
  policy.calibrate = Calibrate::decode;
  policy.fit = FitKind::ols;
  policy.adapt = 0;
  policy.adapt_target = AdaptTarget::head;
  policy.sink = 0;
  policy.recent = 0;
  policy.dense_rows = 0;
  policy.gate = Gate::off;
  policy.empty = EmptyRow::zero;
  return policy;
}

// Top-k as it is usual, renormalised, and over all keys.
Policy plain_topk() {
  Policy policy;
  policy.select = Select::largest;
  policy.keep = 0.125;
  policy.compensate = Compensate::renormalise;
  return policy;
}

// Half of the budget for the newest rows, half for heavy hitters, as in the paper of H2O.
Policy plain_h2o() {
  Policy policy;
  policy.retain = Retain::heavy_hitters;
  policy.keep = 0.25;
  return policy;
}

// The sinks and the cache of StreamingLLM's evaluation.
Policy plain_window() {
  Policy policy;
  policy.retain = Retain::window;
  policy.sink = 4;
  policy.recent = 1020;
  return policy;
}

constexpr std::array<std::string_view, 6> kH2oOptions = {"keep", "budget", "compensate",
                                                         "sink", "recent", "dense_rows"};
constexpr std::array<std::string_view, 4> kWindowOptions = {"compensate", "sink", "recent",
                                                            "dense_rows"};
constexpr std::array<std::string_view, 5> kTopkOptions = {"keep", "compensate", "sink", "recent",
                                                          "dense_rows"};
constexpr std::array<std::string_view, 16> kSiftOptions = {
    "tau",          "warmup", "compensate", "calibrate",  "fit",  "adapt",
    "adapt_target", "sink",   "recent",     "dense_rows", "gate", "empty",
    "estimate",     "bits",   "block",      "margin",
};

}  // namespace

std::span<const PolicyEntry> policy_registry() {
  static const std::array<PolicyPreset, 1> kFullPresets = {{{"", Policy{}}}};
  static const std::array<PolicyPreset, 2> kSiftPresets = {
      {{"", plain_sift()}, {"paper", paper_sift()}}};
  static const std::array<PolicyPreset, 1> kTopkPresets = {{{"", plain_topk()}}};
  static const std::array<PolicyPreset, 1> kH2oPresets = {{{"", plain_h2o()}}};
  static const std::array<PolicyPreset, 1> kWindowPresets = {{{"", plain_window()}}};
  static const std::array<PolicyEntry, 5> kEntries = {{
      {{"full", "full", "Dense attention over every cached key."}, kFullPresets, {}},
      {{"sift", "sift[:paper][,option=value...]",
        "Keys whose softmax score exceeds a threshold that a power law predicts (SiftAttention)."},
       kSiftPresets,
       kSiftOptions},
      {{"topk", "topk[:option=value...]",
        "A fixed share of the keys, those with the largest scores (exact top-k)."},
       kTopkPresets,
       kTopkOptions},
      {{"h2o", "h2o[:option=value...]",
        "Evicts all but the newest keys and those that gathered the most attention (H2O)."},
       kH2oPresets,
       kH2oOptions},
      {{"window", "window[:option=value...]",
        "Evicts all but the first keys and the newest ones (StreamingLLM)."},
       kWindowPresets,
       kWindowOptions},
  }};
  return kEntries;
}

}  // namespace sift
