#include "sift/kernels/cpu/decode_terms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/sifting/quantile.h"

namespace sift::cpu {
namespace {

constexpr int kHeads = 6;
constexpr int kKvHeads = 2;
constexpr int kDim = 32;
constexpr std::int64_t kBatch = 2;
constexpr std::int64_t kKeys = 1300;  // two chunks and a part

class Terms : public testing::TestWithParam<double> {
 protected:
  void SetUp() override {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    std::vector<float> row(kDim);
    for (std::int64_t sequence = 0; sequence < kBatch; ++sequence) {
      cache_.allocate_pages((kKeys + kPageRows - 1) / kPageRows, pages_[sequence]);
      views_.push_back(cache_.view(0, pages_[sequence]));
      for (int head = 0; head < kKvHeads; ++head) {
        for (std::int64_t key = 0; key < kKeys; ++key) {
          std::ranges::generate(row, [&] { return normal(random); });
          write_cache_row(DType::f16, row.data(), kDim, views_.back().value_row(head, key));
        }
      }
    }
  }

  std::vector<float> scores(std::int64_t sequence, int head) const {
    std::vector<float> values;
    for (std::int64_t key = 0; key < kKeys; ++key) {
      values.push_back(terms_.score(sequence, head, key));
    }
    return values;
  }

  void expect_sums(const std::function<double(std::int64_t, int, std::int64_t)>& weight) const {
    std::vector<float> row(kDim);
    for (std::int64_t sequence = 0; sequence < kBatch; ++sequence) {
      for (int head = 0; head < kHeads; ++head) {
        std::vector<double> expected(kDim, 0.0);
        for (std::int64_t key = 0; key < kKeys; ++key) {
          read_cache_row(DType::f16, views_[sequence].value_row(head / (kHeads / kKvHeads), key),
                         kDim, row.data());
          for (int d = 0; d < kDim; ++d) expected[d] += weight(sequence, head, key) * row[d];
        }
        for (int d = 0; d < kDim; ++d) {
          ASSERT_NEAR(terms_.sums()[(sequence * kHeads + head) * kDim + d], expected[d], 2e-2);
        }
      }
    }
  }

  CacheLayout layout_{1, kKvHeads, kDim, DType::f16, {}};
  KvCache cache_{layout_, kBatch*(kKeys + kPageRows)};
  std::vector<std::int32_t> pages_[kBatch];
  std::vector<CacheView> views_;
  DecodeTerms terms_{layout_, kHeads, kBatch, kKeys, GetParam()};
};

TEST_P(Terms, QuantilesAndThresholdsAreThoseOfTheScores) {
  terms_.threshold();
  for (std::int64_t sequence = 0; sequence < kBatch; ++sequence) {
    for (int head = 0; head < kHeads; ++head) {
      std::vector<float> natural = scores(sequence, head);
      for (float& score : natural) score *= std::log(2.0F);
      EXPECT_NEAR(terms_.ln_theta(sequence, head), ln_softmax_quantile(natural, 0, GetParam()),
                  1e-4);
      const double limit = terms_.ln_theta(sequence, head) / std::log(2.0);
      for (std::int64_t key = 0; key < kKeys; ++key) {
        const double distance = terms_.score(sequence, head, key) - limit;
        if (std::abs(distance) < 1e-4) continue;
        ASSERT_EQ(terms_.survives(sequence, head, key), distance > 0);
      }
    }
  }
}

TEST_P(Terms, TopKeepsExactlyTheLargest) {
  terms_.top_k();
  const auto kept = static_cast<std::int64_t>(std::ceil((1 - GetParam()) * kKeys - 1e-9));
  for (int head = 0; head < kHeads; ++head) {
    std::vector<float> sorted = scores(1, head);
    std::ranges::sort(sorted, std::greater());
    for (std::int64_t key = 0; key < kKeys; ++key) {
      ASSERT_EQ(terms_.survives(1, head, key), terms_.score(1, head, key) >= sorted[kept - 1]);
    }
  }
}

TEST_P(Terms, ProjectionsSumTheRowsThatTheyName) {
  terms_.project_all(views_);
  expect_sums([](std::int64_t, int, std::int64_t) { return 1.0 / kKeys; });
  terms_.threshold();
  terms_.project_surviving(views_);
  expect_sums([&](std::int64_t sequence, int head, std::int64_t key) {
    return terms_.survives(sequence, head, key)
               ? std::exp2(static_cast<double>(terms_.score(sequence, head, key)))
               : 0;
  });
}

TEST_P(Terms, FittingChangesNoQuantile) {
  const double before = terms_.ln_theta(1, 3);
  terms_.fit(16);
  EXPECT_NEAR(terms_.ln_theta(1, 3), before, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Sparsities, Terms, testing::Values(0.5, 0.875, 0.95));

}  // namespace
}  // namespace sift::cpu
