#include "sift/eval/attention_speed.h"

#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <random>

#include "sift/cache/cache_rows.h"
#include "sift/core/error.h"
#include "sift/eval/power_law_analysis.h"
#include "sift/kernels/backend.h"
#include "sift/kernels/cpu/decode_terms.h"

namespace sift {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kRecords = 2;  // that a policy calibrates on here
constexpr std::int64_t kFitRecords = 128;

void check(const AttentionSpeedOptions& options) {
  const auto check_range = [](std::string_view what, std::int64_t value, std::int64_t low) {
    if (value >= low) return;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is {}, expected {} or more", what, value, low));
  };
  if (evicts(options.policy)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("attention policy '{}' evicts rows, which one step by itself does not "
                            "show; `sift bench decode` times it",
                            options.policy.name));
  }
  check_range("batch", options.batch, 1);
  check_range("context", options.context, 2);
  check_range("repetitions", options.repeat, 1);
  if (options.type == DType::q8_0 && options.head_dim % 32 != 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("head dimension {} with a q8_0 cache, expected a multiple of 32",
                            options.head_dim));
  }
}

/// The policy as its steps run here: calibrated in two steps.
Policy calibrated_here(Policy policy) {
  policy.calibrate = Calibrate::decode;
  policy.warmup = kRecords;
  return policy;
}

ModelShape model_shape(const AttentionSpeedOptions& options, std::int64_t copies) {
  ModelShape shape;
  shape.layers = static_cast<int>(copies);
  shape.heads = options.heads;
  shape.kv_heads = options.kv_heads;
  shape.head_dim = options.head_dim;
  shape.embedding = options.heads * options.head_dim;
  return shape;
}

std::int64_t copies_of(const AttentionSpeedOptions& options) {
  const auto bytes_of_row = static_cast<std::int64_t>(row_bytes(options.type, options.head_dim));
  const std::int64_t bytes = 2 * options.batch * options.context * options.kv_heads * bytes_of_row;
  return std::max<std::int64_t>((options.rotated_bytes + bytes - 1) / bytes, 1);
}

/// Sequences of one policy, in a cache whose layers are the copies.
class Side {
 public:
  Side(const AttentionSpeedOptions& options, const Policy& policy, std::int64_t copies)
      : options_(options),
        cache_({static_cast<int>(copies), options.kv_heads, options.head_dim, options.type,
                sidecar_bytes(policy, options.head_dim)},
               options.batch * ((options.context + kPageRows - 1) / kPageRows * kPageRows)),
        tokens_(static_cast<std::size_t>(options.batch)) {
    for (std::int64_t index = 0; index < options.batch; ++index) {
      sequences_.push_back(std::make_unique<Sequence>(cache_, policy, options.heads));
      sequences_.back()->attention().begin_prompt(0);
      sequences_.back()->reserve(options.context);
      segments_.push_back({sequences_.back().get(), index, 1, 0});
    }
    fill(policy, copies);
    for (const auto& sequence : sequences_) sequence->commit(options.context - 1, 0);
  }

  void attend(Backend& backend, std::int64_t copy, Activations& activations) {
    const Batch batch{tokens_, segments_, /*decode=*/true};
    backend.attend(static_cast<int>(copy), batch, activations);
  }

  /// Counts a step as generated, whose rows the next one writes over.
  void count_step() {
    for (const auto& sequence : sequences_) sequence->commit(0, 1);
  }

  AttentionTotals totals() const {
    const auto row_bytes = static_cast<std::int64_t>(cache_.layout().row_bytes());
    AttentionTotals totals = sequences_.front()->attention().totals(row_bytes);
    for (std::size_t i = 1; i < sequences_.size(); ++i) {
      totals += sequences_[i]->attention().totals(row_bytes);
    }
    return totals;
  }

  std::vector<CacheView> views(std::int64_t copy) const {
    std::vector<CacheView> views;
    views.reserve(sequences_.size());
    for (const auto& sequence : sequences_) {
      views.push_back(sequence->view(static_cast<int>(copy)));
    }
    return views;
  }
  const CacheLayout& layout() const { return cache_.layout(); }

 private:
  // Rows drawn from a table: normal numbers for the whole cache would take long.
  void fill(const Policy& policy, std::int64_t copies) {
    constexpr std::size_t kRows = 8191;
    const std::size_t bytes = cache_.layout().row_bytes();
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<std::byte> table(kRows * bytes);
    std::vector<float> row(static_cast<std::size_t>(options_.head_dim));
    for (std::size_t i = 0; i < kRows; ++i) {
      std::ranges::generate(row, [&] { return normal(random); });
      write_cache_row(options_.type, row.data(), options_.head_dim, table.data() + i * bytes);
    }
    const bool has_sidecars = cache_.layout().sidecars.total() > 0;
    for (std::int64_t copy = 0; copy < copies; ++copy) {
      for (const CacheView& view : views(copy)) {
        for (int head = 0; head < options_.kv_heads; ++head) {
          for (std::int64_t slot = 0; slot < options_.context; ++slot) {
            std::copy_n(table.data() + random() % kRows * bytes, bytes, view.key_row(head, slot));
            std::copy_n(table.data() + random() % kRows * bytes, bytes, view.value_row(head, slot));
            if (has_sidecars) write_sidecars(policy, view, head, slot);
          }
        }
      }
    }
  }

  const AttentionSpeedOptions& options_;
  KvCache cache_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<Segment> segments_;
  std::vector<std::int32_t> tokens_;
};

template <class Work>
double time_of(const Work& work) {
  const Clock::time_point start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The terms, each on all copies in turn.
std::vector<TermSpeed> time_terms(const AttentionSpeedOptions& options, const Side& side,
                                  std::int64_t copies) {
  const double tau =
      options.policy.select == Select::largest ? 1 - options.policy.keep : options.policy.tau;
  cpu::DecodeTerms terms(side.layout(), options.heads, options.batch, options.context, tau);
  std::vector<std::vector<CacheView>> views;
  for (std::int64_t copy = 0; copy < copies; ++copy) views.push_back(side.views(copy));
  std::vector<TermSpeed> result;
  const auto measure = [&](const char* name, const auto& work) {
    std::vector<double> seconds;
    for (std::int64_t i = 0; i < options.repeat; ++i) {
      seconds.push_back(time_of([&] { work(static_cast<std::size_t>(i % copies)); }));
    }
    result.push_back({name, percentile(std::move(seconds), 0.5)});
  };
  measure("project_all", [&](std::size_t copy) { terms.project_all(views[copy]); });
  measure("project_surviving", [&](std::size_t copy) { terms.project_surviving(views[copy]); });
  measure("threshold", [&](std::size_t) { terms.threshold(); });
  measure("top_k", [&](std::size_t) { terms.top_k(); });
  measure("quantile", [&](std::size_t) { terms.quantile(); });
  measure("fit", [&](std::size_t) { terms.fit(kFitRecords); });
  return result;
}

std::unique_ptr<Backend> make_backend(const AttentionSpeedOptions& options,
                                      const ModelShape& shape) {
  if (options.backend == BackendKind::reference) return make_reference_backend(shape);
  return make_cpu_backend(shape, {Compute::f32, options.threads});
}

void fill_queries(const ModelShape& shape, std::int64_t batch, Activations& activations) {
  activations.ensure(shape, batch);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::generate_n(activations.query.data(), batch * shape.embedding,
                  [&] { return normal(random); });
}

/// K, shadow and V bytes that the rows behind these totals read.
double bytes_read(const AttentionTotals& totals) {
  const AttentionStatistics s = totals.summary();
  return static_cast<double>(s.k_bytes_read + s.v_bytes_read);
}

}  // namespace

std::int64_t last_level_cache_bytes() {
  // What one processor reaches: sysconf() may count every cache of the machine.
  for (int index = 9; index >= 2; --index) {
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", index));
    std::int64_t size = 0;
    char unit = 0;
    if (file >> size >> unit && size > 0) return unit == 'M' ? size << 20 : size << 10;
  }
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (bytes > 0) return bytes;
  throw Error(ErrorKind::input_output, "the system does not tell the size of its last-level cache");
}

AttentionSpeed attention_speed(const AttentionSpeedOptions& options,
                               const AttentionSpeedCallback& callback) {
  check(options);
  const std::int64_t copies = copies_of(options);
  const ModelShape shape = model_shape(options, copies);
  const auto backend = make_backend(options, shape);
  const Policy policy = calibrated_here(options.policy);
  backend->check_decode(policy);
  Side dense(options, Policy{}, copies);
  Side sifted(options, policy, copies);
  Activations activations;
  fill_queries(shape, options.batch, activations);
  for (std::int64_t step = 0; step < kRecords; ++step) {
    for (std::int64_t copy = 0; copy < copies; ++copy) sifted.attend(*backend, copy, activations);
    sifted.count_step();
  }

  const AttentionTotals before = sifted.totals();
  std::vector<double> dense_seconds;
  std::vector<double> seconds;
  AttentionSpeed result;
  for (std::int64_t step = 0; step < options.repeat; ++step) {
    const std::int64_t copy = step % copies;
    const auto run_dense = [&] {
      dense_seconds.push_back(time_of([&] { dense.attend(*backend, copy, activations); }));
    };
    if (step % 2 == 0) run_dense();
    seconds.push_back(time_of([&] { sifted.attend(*backend, copy, activations); }));
    if (step % 2 != 0) run_dense();
    if (callback && !callback(step + 1, options.repeat)) return result;
  }

  result.attention = sifted.totals();
  const auto steps = static_cast<double>(options.repeat);
  result.bytes = (bytes_read(result.attention) - bytes_read(before)) / steps;
  result.dense_bytes = bytes_read(dense.totals()) / steps;
  result.copies = copies;
  result.least_seconds = *std::ranges::min_element(seconds);
  result.most_seconds = *std::ranges::max_element(seconds);
  result.seconds = percentile(std::move(seconds), 0.5);
  result.dense_seconds = percentile(std::move(dense_seconds), 0.5);
  if (options.backend == BackendKind::cpu) result.terms = time_terms(options, dense, copies);
  return result;
}

}  // namespace sift
