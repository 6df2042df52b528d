// Matrix products of one token, or of a prompt of 512, through all layers of a model of
// SmolLM2-135M's shape. The weights do not fit in caches, as in a real decode step.
// bytes_per_second counts the packed weights that one token must read; "flops" the multiplications
// and additions of a prompt, de-quantisation included in the time.

#include <benchmark/benchmark.h>
#include <omp.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sift/kernels/cpu/linear.h"

namespace sift::cpu {
namespace {

constexpr int kLayers = 30;
constexpr std::int64_t kEmbedding = 576;  // 768 for K types, whose blocks hold 256 values
constexpr std::int64_t kFeedForward = 1536;
constexpr std::int64_t kVocabulary = 49152;

struct Layer {
  std::shared_ptr<PackedWeight> query, key, value, output, gate, up, down;
};

struct Model {
  std::int64_t embedding;
  std::vector<Layer> layers;
  std::shared_ptr<PackedWeight> head;
  std::size_t layer_bytes = 0;
  double layer_weights = 0;

  Model(DType type, DType head_type, Compute compute, Workspace& workspace)
      : embedding(traits(type).block_values == 256 ? 768 : kEmbedding), layers(kLayers) {
    const auto make = [&](DType t, std::int64_t rows, std::int64_t columns) {
      const std::vector<std::byte> zeros(static_cast<std::size_t>(rows) * row_bytes(t, columns));
      return pack({t, rows, columns, zeros.data()}, compute, workspace);
    };
    const auto add = [&](std::int64_t rows, std::int64_t columns) {
      auto packed = make(type, rows, columns);
      layer_bytes += packed->bytes();
      layer_weights += static_cast<double>(rows * columns);
      return packed;
    };
    for (Layer& layer : layers) {
      layer = {add(embedding, embedding),     add(embedding / 3, embedding),
               add(embedding / 3, embedding), add(embedding, embedding),
               add(kFeedForward, embedding),  add(kFeedForward, embedding),
               add(embedding, kFeedForward)};
    }
    head = make(head_type, kVocabulary, embedding);
  }
};

struct Buffers {
  std::vector<float> hidden, query, key, value, gate, up, logits;
  explicit Buffers(std::int64_t n, std::int64_t embedding)
      : hidden(n * embedding, 0.5F),
        query(hidden),
        key(hidden),
        value(hidden),
        gate(n * kFeedForward, 0.5F),
        up(gate),
        logits(n == 1 ? kVocabulary : 0) {}
};

template <class Multiply>
void run_layers(const Model& model, Multiply multiply, std::int64_t n, Buffers& b, Workspace& w) {
  for (const Layer& layer : model.layers) {
    const Product qkv[] = {{layer.query.get(), b.query.data()},
                           {layer.key.get(), b.key.data()},
                           {layer.value.get(), b.value.data()}};
    multiply(std::span(qkv), b.hidden.data(), n, false, w);
    const Product output[] = {{layer.output.get(), b.hidden.data()}};
    multiply(std::span(output), b.query.data(), n, true, w);
    const Product gated[] = {{layer.gate.get(), b.gate.data()}, {layer.up.get(), b.up.data()}};
    multiply(std::span(gated), b.hidden.data(), n, false, w);
    const Product down[] = {{layer.down.get(), b.hidden.data()}};
    multiply(std::span(down), b.gate.data(), n, true, w);
  }
}

void decode(benchmark::State& state, DType type, DType head, Compute compute) {
  Workspace workspace(omp_get_max_threads());
  const Model model(type, head, compute, workspace);
  Buffers buffers(1, model.embedding);
  for (auto _ : state) {
    run_layers(model, multiply_decode, 1, buffers, workspace);
    const Product logits[] = {{model.head.get(), buffers.logits.data()}};
    multiply_decode(logits, buffers.hidden.data(), 1, false, workspace);
  }
  const auto bytes = static_cast<std::int64_t>(model.layer_bytes + model.head->bytes());
  state.SetBytesProcessed(bytes * static_cast<std::int64_t>(state.iterations()));
}

void prompt(benchmark::State& state, DType type, Compute compute) {
  constexpr std::int64_t kRows = 512;
  Workspace workspace(omp_get_max_threads());
  const Model model(type, DType::q8_0, compute, workspace);
  Buffers buffers(kRows, model.embedding);
  for (auto _ : state) run_layers(model, multiply_prompt, kRows, buffers, workspace);
  state.counters["flops"] = benchmark::Counter(2.0 * kRows * model.layer_weights,
                                               benchmark::Counter::kIsIterationInvariantRate);
}

int register_all() {
  const std::map<Compute, std::string> modes = {
      {Compute::q8, "q8"}, {Compute::f32, "f32"}, {Compute::bf16, "bf16"}};
  for (const DType type : {DType::q4_1, DType::q4_0, DType::q8_0, DType::q5_0, DType::q5_1,
                           DType::q4_k, DType::q5_k, DType::q6_k, DType::f16}) {
    for (const auto& [compute, mode] : modes) {
      const std::string name = std::string(traits(type).name) + "/" + mode;
      const DType head = type == DType::q6_k ? DType::q6_k : DType::q8_0;
      benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, type, head, compute)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
      benchmark::RegisterBenchmark(("prompt/" + name).c_str(), prompt, type, compute)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
  }
  return 0;
}

const int registered = register_all();

}  // namespace
}  // namespace sift::cpu
