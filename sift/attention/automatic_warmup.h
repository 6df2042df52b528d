#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sift/sifting/record_fit.h"

namespace sift {

/// Decides for one request when its warm-up ends (`warmup=auto`): when the laws of most heads
/// predict the next records. Rows count from the request's first generated one, and come in blocks.
/// At the end of each block but the first, every head's law of all records before the block is held
/// against the block's own: its bias is the mean of observed − predicted (of ln θ, or of raw
/// scores). The warm-up ends there if at least half of all heads of all layers have a bias within
/// ±kLargestBias, and after kMostRows in any case. A block with a record that is not finite agrees
/// with nothing.
///
/// Different heads may be used from different threads at once; one head sees its rows in order.
class AutomaticWarmup {
 public:
  static constexpr std::int64_t kBlockRows = 32;
  static constexpr std::int64_t kFewestRows = 2 * kBlockRows;
  static constexpr std::int64_t kMostRows = 512;
  static constexpr double kLargestBias = 0.25;

  /// `heads`: query heads of all layers.
  explicit AutomaticWarmup(std::size_t heads) : heads_(heads) {}

  /// Whether generated row `row` is the first of a block that laws have to predict.
  static bool begins_block(std::int64_t row) { return row > kBlockRows && row % kBlockRows == 1; }

  /// The law of all records of `head` before the block that begins.
  void predict(std::size_t head, const OffsetPowerLaw& law) { heads_[head] = {law, 0}; }
  /// Takes a record of `head` over `keys` keys; rows of the first block are not held against
  /// anything.
  void observe(std::size_t head, std::int64_t keys, double observed) {
    heads_[head].excess += observed - heads_[head].law.ln_threshold(keys);
  }

  /// The first row not before `row` at whose end the warm-up may end.
  static std::int64_t next_check(std::int64_t row);
  /// Whether the warm-up ends with row `row`, which all heads have recorded.
  bool ends_with(std::int64_t row) const;

  std::size_t bytes() const { return heads_.size() * sizeof(Head); }

 private:
  struct Head {
    OffsetPowerLaw law;
    double excess = 0;  ///< Σ observed − predicted over the block
  };
  std::vector<Head> heads_;
};

}  // namespace sift
