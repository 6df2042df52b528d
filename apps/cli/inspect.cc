#include <fmt/format.h>

#include <array>
#include <map>
#include <memory>
#include <optional>

#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/log.h"
#include "apps/cli/report.h"
#include "sift/engine/engine.h"
#include "sift/engine/memory_estimate.h"
#include "sift/model/model.h"

namespace sift::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kCacheTypes = {DType::f16, DType::bf16, DType::f32, DType::q8_0};

/// Cache blocks hold whole rows of a head: q8_0 needs head dimensions that are multiples of 32.
bool can_cache(const Model& model, DType type) {
  return model.shape().head_dim % traits(type).block_values == 0;
}

/// A metadata value as text: strings cut and cleaned, arrays by what they hold.
std::string value_text(const GgufEntry& entry) {
  if (const auto* text = std::get_if<std::string_view>(&entry.value)) return printable(*text);
  if (const auto* array = std::get_if<GgufArray>(&entry.value)) {
    return fmt::format("{} values of type {}", array->count, type_name(array->element_type));
  }
  if (const auto* value = std::get_if<bool>(&entry.value)) return *value ? "true" : "false";
  if (const auto* value = std::get_if<double>(&entry.value)) {
    // A 32-bit value is shown as short as it was meant.
    return entry.type == GgufType::f32 ? fmt::format("{}", static_cast<float>(*value))
                                       : fmt::format("{}", *value);
  }
  if (const auto* value = std::get_if<std::int64_t>(&entry.value)) return fmt::format("{}", *value);
  return fmt::format("{}", std::get<std::uint64_t>(entry.value));
}

Json value_json(const GgufEntry& entry) {
  if (const auto* text = std::get_if<std::string_view>(&entry.value)) return *text;
  if (const auto* array = std::get_if<GgufArray>(&entry.value)) {
    return {{"array_of", type_name(array->element_type)}, {"count", array->count}};
  }
  if (const auto* value = std::get_if<bool>(&entry.value)) return *value;
  if (const auto* value = std::get_if<double>(&entry.value)) return *value;
  if (const auto* value = std::get_if<std::int64_t>(&entry.value)) return *value;
  return std::get<std::uint64_t>(entry.value);
}

std::vector<std::int64_t> shape_of(const GgufTensor& tensor) {
  return {tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions};
}

struct TypeCount {
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
};

struct InspectCommand {
  ModelOptions model;
  OutputOptions output;
  std::string attention = "sift";
  bool all_tensors = false;
  bool check = false;

  void run() const {
    const Policy policy = parse_policy(attention);
    JsonOutput json(output);
    const Model file(resolve_model(model.model));
    check_policy(policy, file.config().context_length);
    if (check) file.check_finite();
    if (json.wanted()) json.write(to_json(file, policy));
    if (!json.to_stdout()) print(file, policy);
  }

 private:
  Json to_json(const Model& file, const Policy& policy) const {
    Json metadata = Json::object();
    for (const GgufEntry& entry : file.metadata().metadata()) {
      metadata[std::string(entry.key)] = value_json(entry);
    }
    Json tensors = Json::array();
    for (const GgufTensor& tensor : file.metadata().tensors()) {
      tensors.push_back({{"name", tensor.name},
                         {"type", traits(tensor.type).name},
                         {"shape", shape_of(tensor)},
                         {"bytes", tensor.bytes}});
    }
    Json object = {{"model", file.file().path()},
                   {"file_bytes", file.file().bytes().size()},
                   {"gguf_version", file.metadata().version()},
                   {"metadata", metadata},
                   {"tensors", tensors},
                   {"memory", memory_json(file, policy)}};
    if (check) object["weights"] = "finite";
    return object;
  }

  Json memory_json(const Model& file, const Policy& policy) const {
    const int threads = resolve_threads(model);
    const MemoryEstimate estimate = estimate_memory(file, policy, threads);
    Json cache = Json::object();
    for (const DType type : kCacheTypes) {
      if (!can_cache(file, type)) continue;
      cache[std::string(traits(type).name)] = {
          {"bytes_per_1000_tokens", cache_bytes(file, type, 1000)},
          {"bytes_at_full_context", cache_bytes(file, type, file.config().context_length)}};
    }
    return {{"weight_bytes", estimate.weight_bytes},
            {"scratch_bytes", estimate.scratch_bytes},
            {"context", file.config().context_length},
            {"attention",
             {{"policy", policy.name},
              {"threads", threads},
              {"scratch_bytes", estimate.attention_scratch_bytes},
              {"state_bytes", estimate.attention_state_bytes}}},
            {"cache", cache}};
  }

  void print(const Model& file, const Policy& policy) const {
    print_text(fmt::format("{}: GGUF version {}, {}\n", file.file().path(),
                           file.metadata().version(),
                           mebibytes(static_cast<std::int64_t>(file.file().bytes().size()))));
    print_text("\nMetadata\n");
    for (const GgufEntry& entry : file.metadata().metadata()) {
      print_text(fmt::format("  {:<42} {}\n", printable(entry.key), value_text(entry)));
    }
    print_tensors(file);
    print_memory(file, policy);
    if (check) print_text("\nAll weights are finite.\n");
  }

  static void print_bytes(std::string_view what, std::int64_t bytes) {
    print_text(fmt::format("  {:<42} {:>12}\n", what, mebibytes(bytes)));
  }

  void print_tensors(const Model& file) const {
    std::map<std::string_view, TypeCount> types;
    for (const GgufTensor& tensor : file.metadata().tensors()) {
      TypeCount& count = types[traits(tensor.type).name];
      count.tensors += 1;
      count.bytes += static_cast<std::int64_t>(tensor.bytes);
    }
    print_text("\nTensors\n");
    for (const auto& [name, count] : types) {
      print_text(
          fmt::format("  {:<6} {:>5} {:>12}\n", name, count.tensors, mebibytes(count.bytes)));
    }
    if (!all_tensors) return;
    print_text("\n");
    for (const GgufTensor& tensor : file.metadata().tensors()) {
      print_text(fmt::format("  {:<32} {:<5} {:<16} {:>12}\n", printable(tensor.name),
                             traits(tensor.type).name,
                             fmt::format("{}", fmt::join(shape_of(tensor), " x ")),
                             fmt::format("{} bytes", tensor.bytes)));
    }
  }

  void print_memory(const Model& file, const Policy& policy) const {
    const int threads = resolve_threads(model);
    const MemoryEstimate estimate = estimate_memory(file, policy, threads);
    const std::int64_t context = file.config().context_length;
    print_text("\nMemory on the CPU, about\n");
    print_bytes("weights, packed", estimate.weight_bytes);
    print_bytes("scratch, while prompts are processed", estimate.scratch_bytes);
    print_text(
        fmt::format("  attention {} over {} tokens, {} threads\n", policy.name, context, threads));
    print_bytes("  scratch", estimate.attention_scratch_bytes);
    print_bytes("  state of a request", estimate.attention_state_bytes);
    print_text(fmt::format("  {:<42} {:>12} {:>18}\n", "cache", "1,000 tokens",
                           fmt::format("{} tokens", context)));
    for (const DType type : kCacheTypes) {
      if (!can_cache(file, type)) continue;
      print_text(fmt::format("    --cache-type {:<27} {:>12} {:>18}\n", traits(type).name,
                             mebibytes(cache_bytes(file, type, 1000)),
                             mebibytes(cache_bytes(file, type, context))));
    }
  }
};

}  // namespace

void add_inspect(CLI::App& root) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App* app =
      root.add_subcommand("inspect", "Show what a model file holds and the memory it needs");
  app->footer("Example:\n  sift inspect smollm2-135m-instruct --check");
  app->add_flag("--tensors", command->all_tensors, "list every tensor")
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  app->add_flag("--check", command->check, "read all weights and refuse any that is not finite")
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  command->model.add_model_to(*app, "MODEL");
  command->model.add_threads_to(*app);
  add_unused(*app, {"--affinity"});
  add_attention(*app, command->attention);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command] { command->run(); });
}

}  // namespace sift::cli
