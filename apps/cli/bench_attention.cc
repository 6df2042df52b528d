#include <fmt/format.h>

#include <memory>
#include <optional>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/log.h"
#include "apps/cli/progress.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/core/threads.h"
#include "sift/eval/attention_speed.h"
#include "sift/eval/result_json.h"

namespace sift::cli {
namespace {

using Json = nlohmann::ordered_json;

enum class Device : std::uint8_t { cpu, reference, cuda };

/// Caches are this many times as large as the last-level cache.
constexpr std::int64_t kRotation = 4;

struct BenchAttentionCommand {
  ModelOptions model;  ///< threads, affinity and cache type of it
  OutputOptions output;
  AttentionSpeedOptions options;
  Device device = Device::cpu;
  std::string attention = "sift:paper";
  std::int64_t heads = 9;
  std::int64_t kv_heads = 3;
  std::int64_t head_dim = 64;

  int run() {
    if (device == Device::cuda) {
      throw Error(ErrorKind::invalid_argument,
                  "--backend cuda: this command runs on the CPU; bench/gpu/run times the CUDA "
                  "kernels where there is a GPU");
    }
    options.backend = device == Device::cpu ? BackendKind::cpu : BackendKind::reference;
    options.policy = parse_policy(attention);
    options.heads = static_cast<int>(heads);
    options.kv_heads = static_cast<int>(kv_heads);
    options.head_dim = static_cast<int>(head_dim);
    options.type = model.cache_type;
    options.threads = resolve_threads(model);
    JsonOutput json(output);
    if (!model.affinity.empty()) pin_threads(parse_processor_list(model.affinity), options.threads);
    const std::int64_t last_level = last_level_cache_bytes();
    options.rotated_bytes = kRotation * last_level;
    catch_interrupts();
    const AttentionSpeed speed = measure();
    if (speed.copies == 0) return static_cast<int>(ErrorKind::interrupted);
    if (json.wanted()) json.write(to_json(speed, last_level));
    if (!json.to_stdout()) print(speed);
    return 0;
  }

 private:
  AttentionSpeed measure() const {
    std::optional<Progress> progress;
    return attention_speed(options, [&](std::int64_t done, std::int64_t total) {
      if (!progress) progress.emplace("attention", total);
      progress->update(done, "steps");
      return !interrupted();
    });
  }

  Json to_json(const AttentionSpeed& speed, std::int64_t last_level) const {
    Json object = attention_speed_json(options, speed);
    object["last_level_cache_bytes"] = last_level;
    return object;
  }

  void print(const AttentionSpeed& speed) const {
    constexpr double kMicro = 1e6;
    const auto rate = [](double bytes, double seconds) { return bytes / seconds / 1e9; };
    print_text(fmt::format(
        "{} × {} keys, {}/{} heads of {}, {}, one layer, {} threads; medians of {}\n"
        "dense        {:>10.1f} µs {:>9.1f} MiB {:>7.1f} GB/s\n"
        "policy       {:>10.1f} µs {:>9.1f} MiB {:>7.1f} GB/s  {:.2f} times as fast as dense\n"
        "{}: realised sparsity {}, union density {}\n",
        options.batch, options.context, heads, kv_heads, head_dim, traits(options.type).name,
        options.threads, options.repeat, kMicro * speed.dense_seconds,
        speed.dense_bytes / (1 << 20), rate(speed.dense_bytes, speed.dense_seconds),
        kMicro * speed.seconds, speed.bytes / (1 << 20), rate(speed.bytes, speed.seconds),
        speed.dense_seconds / speed.seconds, options.policy.name,
        percent(speed.attention.summary().realised_sparsity_after_warmup),
        percent(speed.attention.summary().union_density)));
    for (const TermSpeed& term : speed.terms) {
      print_text(fmt::format("  {:<18} {:>9.1f} µs\n", term.name, kMicro * term.seconds));
    }
  }
};

}  // namespace

void add_bench_attention(CLI::App& bench, int& exit_code) {
  auto command = std::make_shared<BenchAttentionCommand>();
  CLI::App* app = bench.add_subcommand(
      "attention", "One step of decode attention of one layer, without a model, beside dense");
  app->footer(
      "Example:\n  sift bench attention --batch 8 --context 8192 --attention sift:paper,tau=0.95");
  add_choice<Device>(
      *app, "--backend", command->device,
      {{"cpu", Device::cpu}, {"reference", Device::reference}, {"cuda", Device::cuda}},
      "kernels that compute; cuda only says where its figures come from");
  AttentionSpeedOptions& options = command->options;
  add_integer(*app, "--batch", options.batch, 1, 4096, "sequences");
  add_integer(*app, "--context", options.context, 2, 100'000'000, "keys of each sequence");
  add_integer(*app, "--heads", command->heads, 1, 4096, "query heads");
  add_integer(*app, "--kv-heads", command->kv_heads, 1, 4096, "heads of keys and values");
  add_integer(*app, "--head-dim", command->head_dim, 16, 4096, "values of a head");
  add_integer(*app, "--repeat", options.repeat, 1, 1'000'000, "steps of the policy");
  add_choice<DType>(
      *app, "--dtype", command->model.cache_type,
      {{"f16", DType::f16}, {"bf16", DType::bf16}, {"f32", DType::f32}, {"q8_0", DType::q8_0}},
      "element type of the key-value cache");
  add_attention(*app, command->attention);
  command->model.add_threads_to(*app);
  app->add_option("--affinity", command->model.affinity,
                  "processors that threads are tied to, as in 0,2-5")
      ->type_name("LIST");
  add_unused(*app, {"--model"});
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
