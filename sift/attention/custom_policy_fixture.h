#pragma once

// A custom policy for tests, which any test program knows that includes this.

#include <memory>
#include <span>

#include "sift/attention/key_selector.h"

namespace sift {

/// Of its n-th row (from 0) a head keeps every third key, beginning with key (n + head) % 3, and
/// the keys whose mass exceeds `above`: a choice that depends on rows before and on scores.
class Stripes final : public KeySelector {
 public:
  explicit Stripes(double above) : above_(above) {}

  void select(const HeadScores& head, std::span<char> kept) override {
    for (std::int64_t key = 0; key < head.row.visible; ++key) {
      const bool in_stripe = (key + rows_ + head.head) % 3 == 0;
      kept[static_cast<std::size_t>(key)] = in_stripe || head.mass(key) > above_ ? 1 : 0;
    }
    rows_ += 1;
  }

 private:
  double above_;
  std::int64_t rows_ = 0;
};

inline std::unique_ptr<KeySelector> make_stripes(const Policy& policy) {
  return std::make_unique<Stripes>(policy.parameters.at("above"));
}

inline const bool kStripesAreKnown = register_policy(
    {.help = {"stripes", "stripes[:option=value...]", "Every third key and heavy ones."},
     .parameters = {{.help = {"above", "0 <= above <= 1", "Mass above which keys are kept."},
                     .initial = 0.25,
                     .valid = [](double value) { return value >= 0 && value <= 1; }}},
     .make_selector = make_stripes});

}  // namespace sift
