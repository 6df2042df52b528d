// Decode attention of all layers of one token, on the shape of SmolLM2-135M unless named otherwise.
// Layers have caches of their own, so that each finds its cache cold, as generation does.
//
// bytes_per_second counts the bytes that had to be read: K whole, or its shadows and candidates,
// and the rows of V that a head kept. Scores are random and heads independent.

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/kernels/cpu/attend_decode.h"

namespace sift::cpu {
namespace {

struct Setup {
  AttentionShape shape{30, 9, 3, 64};
  DType type = DType::f16;
  std::int64_t depth = 8000;
};

/// A filled cache and what is needed to attend over it.
class Model {
 public:
  Model(const Setup& setup, const Policy& policy)
      : setup_(setup),
        cache_({setup.shape.layers, setup.shape.kv_heads, setup.shape.head_dim, setup.type,
                sidecar_bytes(policy, setup.shape.head_dim)},
               setup.depth),
        state_(policy, setup.shape),
        query_(static_cast<std::size_t>(setup.shape.heads) * setup.shape.head_dim),
        output_(query_.size()) {
    cache_.allocate_pages((setup.depth + kPageRows - 1) / kPageRows, pages_);
    std::normal_distribution<float> normal;
    for (float& value : query_) value = normal(random_);
    fill();
    state_.begin_prompt(0);
  }

  /// One token.
  void attend(std::int64_t generated) {
    for (int layer = 0; layer < setup_.shape.layers; ++layer) {
      attend_decode(state_, layer, cache_.view(layer, pages_), {setup_.depth, generated},
                    query_.data(), output_.data(), workspace_);
    }
    benchmark::DoNotOptimize(output_.data());
  }

  AttentionStatistics statistics() const { return state_.totals(row_bytes()).summary(); }
  std::int64_t row_bytes() const { return static_cast<std::int64_t>(cache_.layout().row_bytes()); }
  /// Bytes of K, or of V, of all layers.
  double side_bytes() const {
    return static_cast<double>(row_bytes() * setup_.shape.layers * setup_.shape.kv_heads *
                               setup_.depth);
  }

 private:
  // Rows drawn from a table: normal numbers for the whole cache would take long.
  void fill() {
    constexpr int kRows = 8191;
    const int dim = setup_.shape.head_dim;
    const auto shadow_bytes =
        static_cast<std::int64_t>(cache_.layout().sidecars[Sidecar::key_shadow]);
    std::vector<std::byte> table(kRows * cache_.layout().row_bytes());
    std::vector<std::byte> shadows(kRows * static_cast<std::size_t>(shadow_bytes));
    std::normal_distribution<float> normal;
    std::vector<float> row(dim);
    for (int i = 0; i < kRows; ++i) {
      for (float& value : row) value = normal(random_);
      write_cache_row(setup_.type, row.data(), dim, table.data() + i * row_bytes());
      if (shadow_bytes == 0) continue;
      write_key_shadow(key_shadow_format(state_.policy(), cache_.layout().shadow_order), row.data(),
                       dim, shadows.data() + i * shadow_bytes);
    }
    const auto copy = [&](std::byte* to) {
      const std::int64_t chosen = random_() % kRows;
      std::copy_n(table.data() + chosen * row_bytes(), row_bytes(), to);
      return shadows.data() + chosen * shadow_bytes;
    };
    for (int layer = 0; layer < setup_.shape.layers; ++layer) {
      const CacheView view = cache_.view(layer, pages_);
      for (int head = 0; head < setup_.shape.kv_heads; ++head) {
        for (std::int64_t slot = 0; slot < setup_.depth; ++slot) {
          const std::byte* shadow = copy(view.key_row(head, slot));
          std::copy_n(shadow, shadow_bytes, view.sidecar_row(Sidecar::key_shadow, head, slot));
          copy(view.value_row(head, slot));
        }
      }
    }
  }

  Setup setup_;
  KvCache cache_;
  AttentionState state_;
  DecodeWorkspace workspace_;
  std::mt19937 random_{1};
  std::vector<std::int32_t> pages_;
  std::vector<float> query_;
  std::vector<float> output_;
};

Setup setup_for(const benchmark::State& bench) {
  Setup setup;
  setup.depth = bench.range(0);
  setup.type = static_cast<DType>(bench.range(1));
  return setup;
}

Policy sift_policy(double tau) {
  Policy policy;
  policy.select = Select::above;
  policy.tau = tau;
  policy.warmup = 2;
  policy.compensate = Compensate::mean;
  return policy;
}

/// Bytes that had to be read, at these shares of the bytes of K and V.
void report(benchmark::State& bench, const Model& model, double key_share, double union_density) {
  const double bytes = (key_share + union_density) * model.side_bytes();
  bench.counters["union_density"] = union_density;
  bench.counters["key_share"] = key_share;
  bench.SetBytesProcessed(
      static_cast<std::int64_t>(bytes * static_cast<double>(bench.iterations())));
}

void decode_dense(benchmark::State& bench) {
  Model model(setup_for(bench), Policy{});
  for (auto _ : bench) model.attend(1);
  report(bench, model, 1, 1);
}

void run_sifted(benchmark::State& bench, Model& model) {
  model.attend(1);
  model.attend(2);
  const AttentionStatistics before = model.statistics();
  for (auto _ : bench) model.attend(3);
  const AttentionStatistics after = model.statistics();
  const double key_share = static_cast<double>(after.k_bytes_read - before.k_bytes_read) /
                           static_cast<double>(after.k_bytes_dense - before.k_bytes_dense);
  report(bench, model, key_share, *after.union_density);
}

/// τ for a union density of argument 2 in percent.
double tau_for(const benchmark::State& bench, const Setup& setup) {
  const double density = static_cast<double>(bench.range(2)) / 100;
  return std::pow(1 - density, 1.0 / setup.shape.group_size());
}

void decode_sift(benchmark::State& bench) {
  const Setup setup = setup_for(bench);
  Model model(setup, sift_policy(tau_for(bench, setup)));
  run_sifted(bench, model);
}

/// Argument 3: the code, as ShadowCode has it.
void decode_quantised(benchmark::State& bench) {
  const Setup setup = setup_for(bench);
  Policy policy = sift_policy(tau_for(bench, setup));
  policy.estimate = Estimate::quantised;
  policy.bits = static_cast<ShadowCode>(bench.range(3));
  Model model(setup, policy);
  run_sifted(bench, model);
}

/// Warm-up rows: dense, and the quantile of every head.
void decode_record(benchmark::State& bench) {
  Model model(setup_for(bench), sift_policy(0.875));
  for (auto _ : bench) model.attend(1);
  report(bench, model, 1, 1);
}

constexpr auto kF16 = static_cast<std::int64_t>(DType::f16);

BENCHMARK(decode_dense)->Args({8000, kF16})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(decode_record)->Args({8000, kF16})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(decode_sift)
    ->ArgsProduct({{8000}, {kF16}, {12, 28, 70, 100}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(decode_dense)
    ->ArgsProduct({{8000},
                   {static_cast<std::int64_t>(DType::f32), static_cast<std::int64_t>(DType::bf16),
                    static_cast<std::int64_t>(DType::q8_0)}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(decode_sift)
    ->ArgsProduct({{8000},
                   {static_cast<std::int64_t>(DType::f32), static_cast<std::int64_t>(DType::bf16),
                    static_cast<std::int64_t>(DType::q8_0)},
                   {28}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(decode_quantised)
    ->ArgsProduct({{8000},
                   {kF16},
                   {12, 28},
                   {static_cast<std::int64_t>(ShadowCode::bits4),
                    static_cast<std::int64_t>(ShadowCode::fp8)}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
// Where sifting begins to pay: kSiftGateMinimum.
BENCHMARK(decode_dense)
    ->ArgsProduct({{128, 256, 512, 1024, 2048, 4096}, {kF16}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(decode_sift)
    ->ArgsProduct({{128, 256, 512, 1024, 2048, 4096}, {kF16}, {28}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sift::cpu
