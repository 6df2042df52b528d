#include "sift/eval/study_cells.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "sift/attention/policy.h"
#include "sift/core/error.h"

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

/// A curve of a chart: a policy string with {} for the number that its points differ in.
struct Curve {
  std::string_view chart;
  std::string_view series;
  std::string_view policy;
  std::vector<double> points;  ///< all of them
  std::vector<double> few;     ///< those of a quick study
  bool after_prompt = false;   ///< runs behind a prompt of a quarter of the window
  bool timed = true;           ///< stands in the frontier too
};

const std::vector<double> kLevels = {0.5, 0.75, 0.875, 0.95};
const std::vector<double> kFewLevels = {0.5, 0.875};
const std::vector<double> kShares = {0.5, 0.25, 0.125, 0.05};
const std::vector<double> kFewShares = {0.5, 0.125};

/// One line for each curve of perplexity against realised sparsity. To add a policy, add a line.
std::vector<Curve> perplexity_curves() {
  return {
      {"perplexity", "Full", "full", {0}, {0}},
      {"perplexity", "Top-k", "topk:keep={}", kShares, kFewShares},
      {"perplexity", "H2O", "h2o:keep={}", kShares, kFewShares},
      {"compensation", "Sift", "sift:paper,tau={}", kLevels, kFewLevels},
      {"compensation", "Sift, renormalised", "sift:paper,tau={},compensate=renormalise", kLevels,
       kFewLevels},
      {"compensation", "Sift, mean", "sift:paper,tau={},compensate=mean", kLevels, kFewLevels},
      {"compensation", "Sift, mean, from prompt",
       "sift:paper,tau={},calibrate=prefill,warmup=64,compensate=mean", kLevels, kFewLevels, true},
      {"compensation", "Sift, mean, adapting",
       "sift:paper,tau={},warmup=32,adapt=0.05,compensate=mean", kLevels, kFewLevels},
      {"compensation", "Top-k, renormalised", "topk:keep={},compensate=renormalise", kShares,
       kFewShares},
      {"compensation", "Top-k, mean", "topk:keep={},compensate=mean", kShares, kFewShares},
      {"fits", "least squares", "sift:paper,tau={}", kLevels, kFewLevels, false, false},
      {"fits", "robust", "sift:paper,tau={},fit=robust", kLevels, kFewLevels, false, false},
      {"fits", "offset", "sift:paper,tau={},fit=offset", kLevels, kFewLevels, false, false},
      {"fits", "raw scores", "sift:paper,tau={},threshold=raw", kLevels, kFewLevels, false, false},
      {"fits", "automatic warm-up", "sift:paper,tau={},warmup=auto", kLevels, kFewLevels, false,
       false},
  };
}

constexpr std::array<std::int64_t, 6> kWarmups = {16, 32, 64, 128, 256, 512};
constexpr std::array<std::int64_t, 2> kFewWarmups = {32, 128};
constexpr std::int64_t kMaskStep = 2048;

/// Prompts whose continuations are shown beside each other.
struct Domain {
  std::string_view name;
  std::string_view prompt;
};
constexpr std::array<Domain, 4> kDomains = {{
    {"story", "The old keeper of the lighthouse climbed the stairs for the last time, and"},
    {"science", "Photosynthesis is the process by which plants turn light into food. It begins"},
    {"code", "# Returns the prime factors of a number, smallest first.\ndef prime_factors(n):\n"},
    {"history", "The roads of the Roman Empire were built to last. To build one, workers"},
}};
constexpr std::array<std::string_view, 3> kSamplePolicies = {
    "full", "sift:paper,warmup=16,tau=0.875", "sift:paper,warmup=32,tau=0.95"};

class Table {
 public:
  explicit Table(const StudyPlan& plan) : plan_(plan) {}

  StudyCells take() {
    add_power_laws();
    for (const std::string& text : plan_.texts) {
      add_warmups(text);
      for (const Curve& curve : perplexity_curves()) add_curve(text, curve);
    }
    add_masks();
    add_samples();
    add_attention_speeds();
    return std::move(cells_);
  }

 private:
  /// Adds a cell, or what it is drawn in to the one that measures the same.
  void add(Json identity, std::string_view chart, std::string_view series) {
    const Json use = {{"chart", chart}, {"series", series}};
    const auto same = [&](const StudyCell& cell) { return cell.identity == identity; };
    const auto found = std::ranges::find_if(cells_.cells, same);
    if (found == cells_.cells.end()) {
      cells_.cells.push_back({std::move(identity), Json::array({use})});
    } else {
      found->charts.push_back(use);
    }
  }

  /// Whether this build can run the policy on a window; names what it does not know once.
  bool knows(const std::string& text, std::int64_t prompt_tokens) {
    try {
      const Policy policy = parse_policy(text);
      const bool records = policy.select == Select::above && policy.calibrate == Calibrate::decode;
      return !records || 2 * policy.warmup <= plan_.context - prompt_tokens;
    } catch (const Error& error) {
      if (named_.insert(text).second) cells_.left_out.push_back({text, error.what()});
      return false;
    }
  }

  void add_power_laws() {
    for (const std::string& text : plan_.texts) {
      for (std::int64_t window = 0; window < plan_.windows; ++window) {
        add({{"kind", "powerlaw"}, {"text", text}, {"window", window}}, "power_law", text);
      }
    }
  }

  void add_perplexity(const std::string& text, const std::string& policy,
                      std::int64_t prompt_tokens, std::string_view chart, std::string_view series) {
    if (!knows(policy, prompt_tokens)) return;
    add({{"kind", "perplexity"},
         {"text", text},
         {"policy", policy},
         {"prompt_tokens", prompt_tokens}},
        chart, series);
  }

  void add_warmups(const std::string& text) {
    const std::span<const std::int64_t> warmups =
        plan_.quick ? std::span<const std::int64_t>(kFewWarmups) : kWarmups;
    for (const std::int64_t warmup : warmups) {
      for (const double level : plan_.quick ? kFewLevels : kLevels) {
        const std::string policy = fmt::format("sift:paper,tau={},warmup={}", level, warmup);
        const std::string series = fmt::format("Sift, w = {}", warmup);
        add_perplexity(text, policy, 0, "perplexity", series);
        add_perplexity(text, policy, 0, "intended_sparsity", fmt::format("w = {}", warmup));
      }
    }
  }

  void add_curve(const std::string& text, const Curve& curve) {
    const std::int64_t prompt_tokens = curve.after_prompt ? plan_.context / 4 : 0;
    for (const double point : plan_.quick ? curve.few : curve.points) {
      const std::string policy = fmt::format(fmt::runtime(curve.policy), point);
      add_perplexity(text, policy, prompt_tokens, curve.chart, curve.series);
      if (!curve.timed || text != plan_.texts.front() || !knows(policy, prompt_tokens)) continue;
      add({{"kind", "decode_speed"},
           {"text", text},
           {"policy", policy},
           {"depth", plan_.context / 2}},
          "frontier", curve.series);
    }
  }

  void add_masks() {
    for (const double level : {0.5, 0.9}) {
      const std::string policy = fmt::format("sift:paper,tau={}", level);
      if (!knows(policy, 0)) continue;
      add({{"kind", "mask"},
           {"text", plan_.texts.front()},
           {"policy", policy},
           {"step", std::min(kMaskStep, plan_.context)}},
          "masks", fmt::format("τ = {}", level));
    }
  }

  void add_samples() {
    const std::int64_t tokens = std::min<std::int64_t>(plan_.quick ? 128 : 384, plan_.context / 2);
    for (const Domain& domain : kDomains) {
      for (const std::string_view policy : kSamplePolicies) {
        add({{"kind", "generation"},
             {"domain", domain.name},
             {"prompt", domain.prompt},
             {"policy", policy},
             {"max_tokens", tokens}},
            "samples", policy);
      }
    }
  }

  void add_attention_speeds() {
    const std::vector<std::int64_t> contexts = plan_.quick
                                                   ? std::vector<std::int64_t>{1024, 4096}
                                                   : std::vector<std::int64_t>{1024, 4096, 16384};
    std::vector<std::string> policies;
    for (const double level : plan_.quick ? kFewLevels : kLevels) {
      policies.push_back(fmt::format("sift:paper,tau={}", level));
    }
    policies.emplace_back("topk:keep=0.125");
    for (const std::int64_t batch : {1, 8, 16}) {
      for (const std::int64_t context : contexts) {
        for (const std::string& policy : policies) {
          add({{"kind", "attention_speed"},
               {"policy", policy},
               {"batch", batch},
               {"context", std::min(context, 4 * plan_.context)}},
              "latency", fmt::format("batch {}", batch));
        }
      }
    }
  }

  const StudyPlan& plan_;
  StudyCells cells_;
  std::set<std::string> named_;  ///< policies that were left out
};

}  // namespace

StudyCells paper_cells(const StudyPlan& plan) { return Table(plan).take(); }

}  // namespace sift
