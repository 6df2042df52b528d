// A policy of one's own: the fewest keys whose softmax mass reaches p. docs/guides/add-a-policy.md
// walks through this file. Linked into a program, it makes `topp` a policy like any other:
//   example_sift perplexity --text book.txt --attention topp:p=0.95
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "sift/attention/key_selector.h"

namespace {

class TopP final : public sift::KeySelector {
 public:
  explicit TopP(double p) : p_(p) {}

  // Keys by falling score, of equal ones those at lower positions first, until the mass of all that
  // stay reaches p. Keys that stay whatever is chosen count from the start.
  void select(const sift::HeadScores& head, std::span<char> kept) override {
    order_.resize(kept.size());
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    double mass = 0;
    for (const std::int64_t key : order_) mass += head.is_forced(key) ? head.mass(key) : 0;
    const auto comes_later = [&](std::int64_t a, std::int64_t b) {
      const float score_a = head.scores[static_cast<std::size_t>(a)];
      const float score_b = head.scores[static_cast<std::size_t>(b)];
      return score_a != score_b ? score_a < score_b : a > b;
    };
    // A heap gives the first few without sorting all.
    std::ranges::make_heap(order_, comes_later);
    for (auto end = order_.end(); mass < p_ && end != order_.begin(); --end) {
      std::pop_heap(order_.begin(), end, comes_later);
      const std::int64_t key = *(end - 1);
      if (head.is_forced(key)) continue;
      kept[static_cast<std::size_t>(key)] = 1;
      mass += head.mass(key);
    }
  }

 private:
  double p_;
  std::vector<std::int64_t> order_;  // memory that every row uses again
};

std::unique_ptr<sift::KeySelector> make_top_p(const sift::Policy& policy) {
  return std::make_unique<TopP>(policy.parameters.at("p"));
}

const bool kTopPIsKnown = sift::register_policy(
    {.help = {"topp", "topp[:option=value...]", "The fewest keys whose softmax mass reaches p."},
     .parameters = {{.help = {"p", "0 < p <= 1", "Softmax mass that the kept keys reach."},
                     .initial = 0.95,
                     .valid = [](double p) { return p > 0 && p <= 1; }}},
     .make_selector = make_top_p});

}  // namespace
