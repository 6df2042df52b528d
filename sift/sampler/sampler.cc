#include "sift/sampler/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sift/core/error.h"
#include "sift/sampler/random.h"

namespace sift {
namespace {

void require(bool holds, std::string_view option, double value, std::string_view range) {
  if (!holds) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is {}, expected {}", option, value, range));
  }
}

void penalise(std::span<const std::int32_t> seen, double penalty, std::vector<float>& logits) {
  std::vector<std::int32_t> tokens(seen.begin(), seen.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (const std::int32_t token : tokens) {
    float& logit = logits[static_cast<std::size_t>(token)];
    logit = static_cast<float>(logit > 0 ? logit / penalty : logit * penalty);
  }
}

/// Ids of the `count` highest logits, best first, ties to the lower id.
std::vector<std::int32_t> best_ids(std::span<const float> logits, std::size_t count) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto better = [&](std::int32_t a, std::int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  count = std::min(count, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
                    better);
  ids.resize(count);
  return ids;
}

}  // namespace

void SamplingOptions::validate() const {
  require(std::isfinite(repetition_penalty) && repetition_penalty > 0, "repetition penalty",
          repetition_penalty, "a number above 0");
  require(std::isfinite(temperature) && temperature >= 0, "temperature", temperature,
          "a number of at least 0");
  require(top_k >= 0, "top-k", static_cast<double>(top_k), "an integer of at least 0 (0 is off)");
  require(top_p > 0 && top_p <= 1, "top-p", top_p, "a number above 0 and at most 1");
  require(min_p >= 0 && min_p <= 1, "min-p", min_p, "a number from 0 to 1");
}

double log_sum_exp(std::span<const float> logits) {
  const double maximum = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - maximum);
  return maximum + std::log(sum);
}

Sampler::Sampler(const SamplingOptions& options, std::uint64_t stream)
    : options_(options), stream_(stream) {
  options_.validate();
}

SampledToken Sampler::sample(std::span<const float> logits, std::span<const std::int32_t> seen,
                             std::uint64_t step, int logprobs) const {
  SampledToken result;
  const bool plain = options_.temperature == 0 && options_.repetition_penalty == 1;
  if (plain) {
    result.token.id =
        static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  } else {
    std::vector<float> adjusted(logits.begin(), logits.end());
    if (options_.repetition_penalty != 1) penalise(seen, options_.repetition_penalty, adjusted);
    result.token.id = pick(adjusted, step);
  }
  if (logprobs > 0) {
    const double total = log_sum_exp(logits);
    result.token.log_probability = logits[result.token.id] - total;
    for (const std::int32_t id : best_ids(logits, static_cast<std::size_t>(logprobs))) {
      result.top.push_back({id, logits[id] - total});
    }
  }
  return result;
}

std::int32_t Sampler::pick(std::vector<float>& logits, std::uint64_t step) const {
  if (options_.temperature == 0) return best_ids(logits, 1).front();
  const std::size_t limit =
      options_.top_k > 0 ? static_cast<std::size_t>(options_.top_k) : logits.size();
  const std::vector<std::int32_t> ids = best_ids(logits, limit);
  std::vector<double> weights(ids.size());  // relative to the most probable
  double total = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    weights[i] =
        std::exp((static_cast<double>(logits[ids[i]]) - logits[ids[0]]) / options_.temperature);
    total += weights[i];
  }
  std::size_t kept = 0;
  double kept_total = 0;
  while (kept < ids.size() && weights[kept] >= options_.min_p &&
         (kept == 0 || kept_total < options_.top_p * total)) {
    kept_total += weights[kept++];
  }
  double remaining = uniform_random(options_.seed, stream_, step) * kept_total;
  for (std::size_t i = 0; i < kept; ++i) {
    remaining -= weights[i];
    if (remaining < 0) return ids[i];
  }
  return ids[kept - 1];
}

}  // namespace sift
