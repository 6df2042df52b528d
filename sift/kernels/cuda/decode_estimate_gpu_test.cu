// Decode attention over estimated scores, against the oracle in double precision.

#include <limits>
#include <memory>

#include "sift/kernels/cuda/decode_estimate_oracle.h"
#include "sift/kernels/cuda/decode_fixture.cuh"
#include "sift/kernels/cuda/key_shadow_fixture.h"

namespace sift::cuda {
namespace {

struct EstimateSetup {
  KeyShadowFormat format;
  double margin = 0;  // natural logarithms
  double tau = 0.8;
};

/// A sifted batch with shadows of its keys, and what its heads are to do.
template <class T>
class EstimateProblem : public Problem<T> {
 public:
  EstimateProblem(const ProblemSetup& setup, const EstimateSetup& estimate)
      : Problem<T>(setup), estimate_(estimate) {
    this->sift(std::vector(setup.lengths.size(), RequestMode::sift), estimate.tau);
    this->arguments.margin = static_cast<float>(estimate.margin);
  }

  /// Makes the shadows, which sink, recent and the rest of the arguments do not change.
  void shadow() {
    const PagedCache& cache = this->cache();
    plan_ = lay_out_shadows(estimate_.format, this->setup().head_dim, this->setup().kv_heads,
                            cache.pages, cache.rows_per_page, TileOrder::pages);
    tiles_ = std::make_unique<DeviceArray<char>>(static_cast<std::size_t>(plan_.bytes));
    tiles_->fill_bytes(0x7f);
    plan_.address.tiles = tiles_->data();
    KeyShadowArguments a;
    a.batch = this->arguments.batch;
    a.kv_heads = this->setup().kv_heads;
    a.head_dim = this->setup().head_dim;
    a.type = kType<T>;
    a.cache = this->arguments.cache;
    a.shadows = plan_.address;
    DeviceArray<std::int32_t> begin(std::vector<std::int32_t>(this->setup().lengths.size(), 0));
    a.begin = begin.data();
    a.end = this->arguments.lengths;
    a.most = *std::max_element(this->setup().lengths.begin(), this->setup().lengths.end());
    write_key_shadows(a, nullptr);
    must(cudaDeviceSynchronize());
    this->arguments.shadows = plan_.address;
  }

  DecodeCapacity capacity() const override {
    DecodeCapacity capacity = Problem<T>::capacity();
    capacity.estimates = true;
    return capacity;
  }

  /// Compares outputs, log-sum-exps and facts of all heads that are not within rounding of deciding
  /// otherwise. Returns how many those are.
  int compare_with_oracle(double tolerance) {
    const std::vector<EstimatedHead> heads = expected_heads();
    std::vector<double> weights(heads.size() * this->longest());
    for (std::size_t row = 0; row < heads.size(); ++row) {
      std::copy(heads[row].weights.begin(), heads[row].weights.end(),
                weights.begin() + row * this->longest());
    }
    const std::vector<double> reference = this->reference_of(weights);
    const std::vector<T> output = this->output();
    const std::vector<float> lse = this->log_sum_exp();
    const std::vector<StepHeadFacts> facts = this->head_facts();
    const auto dim = static_cast<std::size_t>(this->setup().head_dim);
    int compared = 0;
    for (std::size_t row = 0; row < heads.size(); ++row) {
      if (heads[row].clearance < 1e-3) continue;
      ++compared;
      EXPECT_NEAR(lse[row], heads[row].log_sum_exp, 2e-3) << "row " << row;
      EXPECT_EQ(facts[row].kept, heads[row].facts.kept) << "row " << row;
      EXPECT_EQ(facts[row].kept_eligible, heads[row].facts.kept_eligible) << "row " << row;
      EXPECT_EQ(facts[row].empty != 0, heads[row].facts.empty) << "row " << row;
      EXPECT_NEAR(facts[row].kept_mass, heads[row].facts.kept_mass, 5e-3) << "row " << row;
      for (std::size_t d = 0; d < dim; ++d) {
        const double error =
            std::fabs(static_cast<double>(output[row * dim + d]) - reference[row * dim + d]);
        if (!(error <= tolerance)) {
          ADD_FAILURE() << "row " << row << " value " << d << ": "
                        << static_cast<float>(output[row * dim + d]) << " for "
                        << reference[row * dim + d];
          return compared;
        }
      }
    }
    compare_groups(heads);
    return compared;
  }

 private:
  std::vector<EstimatedHead> expected_heads() {
    const std::vector<double> exact = this->scores();
    const std::vector<double> estimates = this->scores_of_keys(shadowed_keys());
    std::vector<EstimatedHead> heads;
    for (std::size_t row = 0; row * this->longest() < exact.size(); ++row) {
      const int length = this->setup().lengths[row / this->setup().heads];
      const auto of = [&](const std::vector<double>& scores) {
        const auto begin = scores.begin() + static_cast<std::ptrdiff_t>(row * this->longest());
        return std::vector<double>(begin, begin + length);
      };
      EstimateRule rule = this->rule();
      rule.log2_threshold = this->thresholds()[row];
      heads.push_back(sift_estimated(of(exact), of(estimates), rule));
    }
    return heads;
  }

  EstimateRule rule() const {
    EstimateRule rule;
    rule.margin = estimate_.margin / std::log(2.0);
    rule.sink = this->arguments.sink;
    rule.recent = this->arguments.recent;
    rule.empty = this->arguments.empty;
    return rule;
  }

  // The keys that the shadows stand for, where the cache has those that they are of.
  std::vector<float> shadowed_keys() {
    const PagedCache& cache = this->cache();
    const ProblemSetup& setup = this->setup();
    const std::vector<char> tiles = tiles_->host();
    std::vector<float> keys(this->keys().size(), 0.0F);
    for (std::int64_t page = 0; page < cache.pages; ++page) {
      for (int kv_head = 0; kv_head < setup.kv_heads; ++kv_head) {
        for (std::int64_t slot = 0; slot < cache.rows_per_page; ++slot) {
          const std::int64_t tile = tile_offset(plan_.address, setup.head_dim, page, kv_head, slot);
          const std::vector<float> key = get_shadowed_key(
              estimate_.format, setup.head_dim,
              reinterpret_cast<const std::byte*>(tiles.data()) + tile, static_cast<int>(slot % 16));
          const std::int64_t to =
              (page * cache.address.page_stride + slot * cache.address.slot_stride +
               kv_head * cache.address.head_stride) /
              2;
          std::copy(key.begin(), key.end(), keys.begin() + to);
        }
      }
    }
    return keys;
  }

  void compare_groups(const std::vector<EstimatedHead>& heads) {
    const std::vector<StepGroupFacts> facts = this->group_facts();
    const auto group = static_cast<std::size_t>(this->setup().heads / this->setup().kv_heads);
    for (std::size_t unit = 0; unit < facts.size(); ++unit) {
      const std::vector<EstimatedHead> of_unit(heads.begin() + unit * group,
                                               heads.begin() + (unit + 1) * group);
      double clearance = 1;
      for (const EstimatedHead& head : of_unit) clearance = std::min(clearance, head.clearance);
      if (clearance < 1e-3) continue;
      const GroupFacts expected = unite(of_unit, rule());
      EXPECT_EQ(facts[unit].rows, expected.union_rows) << "unit " << unit;
      EXPECT_EQ(facts[unit].rows_eligible, expected.union_eligible) << "unit " << unit;
      EXPECT_EQ(facts[unit].candidates, expected.candidate_rows) << "unit " << unit;
    }
  }

  EstimateSetup estimate_;
  ShadowPlan plan_;
  std::unique_ptr<DeviceArray<char>> tiles_;
};

const std::vector<int> kLengths = {1, 2, 17, 64, 255, 300, 1000};

std::vector<EstimateSetup> estimates(int head_dim) {
  std::vector<EstimateSetup> setups = {{{ShadowCode::bits4, 32, ShadowOrder::as_stored}, 0.5, 0.8},
                                       {{ShadowCode::bits4, 32, ShadowOrder::pairs_parted}, 0, 0.5},
                                       {{ShadowCode::fp8, 32, ShadowOrder::as_stored}, 0.2, 0.9}};
  if (head_dim % 64 == 0)
    setups.push_back({{ShadowCode::bits4, 64, ShadowOrder::as_stored}, 1, 0.9});
  return setups;
}

template <class T>
class DecodeEstimateTest : public testing::Test {};
using Types = testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(DecodeEstimateTest, Types);

TYPED_TEST(DecodeEstimateTest, EqualsTheOracle) {
  int compared = 0;
  int heads = 0;
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const int group : {1, 4, 7, 16}) {
      for (const EstimateSetup& estimate : estimates(head_dim)) {
        SCOPED_TRACE(testing::Message() << "D " << head_dim << " group " << group << " code "
                                        << static_cast<int>(estimate.format.code) << " block "
                                        << estimate.format.block << " margin " << estimate.margin);
        const Layout layout = group % 3 == 0   ? Layout::contiguous
                              : group % 2 == 0 ? Layout::hnd
                                               : Layout::nhd;
        EstimateProblem<TypeParam> problem({2 * group, 2, head_dim, kLengths, layout, 32},
                                           estimate);
        problem.shadow();
        problem.run();
        compared += problem.compare_with_oracle(tolerance<TypeParam>());
        heads += 2 * group * static_cast<int>(kLengths.size());
        if (this->HasFailure()) return;
      }
    }
  }
  EXPECT_GT(compared, heads / 4);
}

TYPED_TEST(DecodeEstimateTest, KeepsForcedKeysAndOneOfAnEmptyHead) {
  for (const int forced : {0, 5}) {
    for (const EmptyHead empty : {EmptyHead::zero, EmptyHead::highest}) {
      SCOPED_TRACE(testing::Message() << forced << " forced, empty " << static_cast<int>(empty));
      EstimateProblem<TypeParam> problem(
          {8, 2, 128, {40, 700, 3000}, Layout::hnd, 16},
          {{ShadowCode::bits4, 32, ShadowOrder::as_stored}, 0.3, 0.9});
      problem.arguments.sink = forced;
      problem.arguments.recent = forced;
      problem.arguments.empty = empty;
      std::vector<float> thresholds = problem.thresholds();
      for (std::size_t i = 0; i < thresholds.size(); i += 2) thresholds[i] = 1;
      problem.set_thresholds(thresholds);
      problem.shadow();
      problem.run();
      EXPECT_GT(problem.compare_with_oracle(tolerance<TypeParam>()), 0);
    }
  }
}

// More items of each kind than a launch has blocks, so that blocks go on with other items.
TYPED_TEST(DecodeEstimateTest, MoreItemsThanBlocks) {
  std::vector<int> lengths;
  for (int i = 0; i < 64; ++i) lengths.push_back(3500 + i * 9);
  EstimateProblem<TypeParam> problem({8, 8, 64, lengths, Layout::hnd, 16},
                                     {{ShadowCode::bits4, 32, ShadowOrder::as_stored}, 0.5, 0.9});
  problem.arguments.exact = false;
  problem.shadow();
  problem.run();
  EXPECT_GT(problem.compare_with_oracle(tolerance<TypeParam>()), 10);  // most are too close to call
}

// Few keys are different, so that scores keep clear of thresholds however many there are.
TYPED_TEST(DecodeEstimateTest, LongContexts) {
  EstimateProblem<TypeParam> problem({8, 2, 128, {40000, 5, 9000}, Layout::hnd, 16},
                                     {{ShadowCode::bits4, 32, ShadowOrder::as_stored}, 0.5, 0.9});
  std::vector<TypeParam> keys = problem.keys().host();
  constexpr std::size_t kDifferent = std::size_t{61} * 128;
  for (std::size_t i = kDifferent; i < keys.size(); ++i) keys[i] = keys[i % kDifferent];
  problem.keys().set(keys);
  problem.sift(std::vector(3, RequestMode::sift), 0.9);
  problem.shadow();
  problem.run();
  EXPECT_GT(problem.compare_with_oracle(tolerance<TypeParam>()), 16);  // heads, of 24
}

TYPED_TEST(DecodeEstimateTest, KeysThatAreNoNumbersMakeTheirHeadsOutputNoNumber) {
  for (const ShadowCode code : {ShadowCode::bits4, ShadowCode::fp8}) {
    SCOPED_TRACE(static_cast<int>(code));
    EstimateProblem<TypeParam> problem({8, 2, 128, {700, 900}, Layout::contiguous, 16},
                                       {{code, 32, ShadowOrder::as_stored}, 0.5, 0.8});
    std::vector<TypeParam> keys = problem.keys().host();
    keys[(3 * 2 + 0) * 128 + 5] = std::numeric_limits<float>::quiet_NaN();  // key 3, KV head 0
    problem.keys().set(keys);
    problem.shadow();
    problem.run(1);
    const std::vector<TypeParam> output = problem.output();
    for (std::size_t i = 0; i < output.size(); ++i) {
      const bool touched = i / 128 < 4;  // heads 0 to 3 of request 0 share KV head 0
      ASSERT_EQ(std::isnan(static_cast<float>(output[i])), touched) << "value " << i;
    }
  }
}

}  // namespace
}  // namespace sift::cuda
