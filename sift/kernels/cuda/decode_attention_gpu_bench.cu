// Decode attention on the GPU: ours, dense and sifted, against the time that merely reading the
// same bytes takes. Variants take turns (A B B A); each is a CUDA graph that replays launches over
// caches that rotate through more than four times the L2 cache. One JSON object per cell.
//
// With --once nothing is timed: each variant runs one step between two sweeps of the L2 cache, for
// a profiler that counts bytes (tools/gpu/decode-bytes). One JSON object per step, in their order.

#include <cuda_fp16.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>

#include "sift/kernels/cuda/decode_problem.cuh"
#include "sift/kernels/cuda/key_shadow_fixture.h"

namespace sift::cuda {
namespace {

constexpr std::int64_t kRotatedBytes = std::int64_t{300} << 20;
constexpr std::int64_t kSweptBytes = std::int64_t{256} << 20;

__global__ void read_all(const uint4* keys, const uint4* values, std::int64_t side,
                         unsigned* sink) {
  unsigned sum = 0;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x * 4;
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} * 4 + threadIdx.x; i < 2 * side;
       i += step) {
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const std::int64_t place = i + j * std::int64_t{blockDim.x};
      v[j] = uint4{0, 0, 0, 0};
      if (place < 2 * side) v[j] = __ldcs(place < side ? keys + place : values + place - side);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345678U) *sink = sum;
}

/// Reads several times what the L2 cache holds, so that a step before it has to write back what it
/// left there, and a step after it finds nothing. It writes nothing itself: that would be counted
/// for the step after it. Loads are ordinary ones, since streaming ones would replace each other.
__global__ void sweep_cache(const uint4* memory, std::int64_t size, unsigned* sink) {
  unsigned sum = 0;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < size; i += step) {
    const uint4 v = memory[i];
    sum ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345678U) *sink = sum;
}

struct Cell {
  int batch = 8;
  int context = 8192;
  int heads = 32;
  int kv_heads = 8;
  int head_dim = 128;
};

using Launch = std::function<void(int copy, cudaStream_t)>;

/// A way to attend, or only to read.
struct Step {
  std::string name;
  Launch launch;
  bool sifts = false;      ///< and says in Facts what it kept
  bool estimates = false;  ///< scores, from shadows; of K it reads the candidates
};

/// Where steps that sift say what they did.
struct Facts {
  explicit Facts(const Cell& cell)
      : heads(static_cast<std::size_t>(cell.batch) * cell.heads),
        groups(static_cast<std::size_t>(cell.batch) * cell.kv_heads) {}

  DeviceArray<StepHeadFacts> heads;
  DeviceArray<StepGroupFacts> groups;
};

/// What a step kept, and the rows that it had to read.
struct StepCounts {
  std::int64_t kept = 0;  ///< keys of all heads
  std::int64_t value_rows = 0;
  std::int64_t key_rows = 0;
};

std::int64_t rows_of_cache(const Cell& cell) {
  return std::int64_t{cell.batch} * cell.kv_heads * cell.context;
}

/// Counts of the step that ran last. Exact attention keeps and reads everything, and says nothing.
StepCounts count(const Step& step, const Cell& cell, const Facts& facts) {
  const std::int64_t rows = rows_of_cache(cell);
  if (!step.sifts) return {std::int64_t{cell.batch} * cell.heads * cell.context, rows, rows};
  StepCounts counts;
  for (const StepHeadFacts& head : facts.heads.host()) counts.kept += head.kept;
  for (const StepGroupFacts& group : facts.groups.host()) {
    counts.value_rows += group.rows;
    counts.key_rows += group.candidates;
  }
  if (!step.estimates) counts.key_rows = rows;
  return counts;
}

/// The bytes that a step had to read of K, V and the shadows.
std::int64_t bytes_to_read(const Step& step, const Cell& cell, const StepCounts& counts) {
  const std::int64_t of_tile = step.estimates ? shadow_tile_bytes({}, cell.head_dim) : 0;
  return (counts.key_rows + counts.value_rows) * cell.head_dim * 2 +
         rows_of_cache(cell) * of_tile / kShadowTileKeys;
}

void print_densities(const Step& step, const Cell& cell, const StepCounts& counts) {
  const auto rows = static_cast<double>(rows_of_cache(cell));
  const double keys = static_cast<double>(cell.batch) * cell.heads * cell.context;
  std::printf(", \"sparsity\": %.4f, \"union\": %.4f", 1 - static_cast<double>(counts.kept) / keys,
              static_cast<double>(counts.value_rows) / rows);
  if (step.estimates) {
    std::printf(", \"candidates\": %.4f", static_cast<double>(counts.key_rows) / rows);
  }
}

/// A graph of launches over all copies, a whole number of times.
class Variant {
 public:
  Variant(std::string name, const Launch& launch, int copies) : name_(std::move(name)) {
    cudaStream_t stream = nullptr;
    must(cudaStreamCreate(&stream));
    launch(0, stream);
    must(cudaStreamSynchronize(stream));
    launches_ = copies * std::max(1, 8 / copies);
    cudaGraph_t graph = nullptr;
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < launches_; ++i) launch(i % copies, stream);
    must(cudaStreamEndCapture(stream, &graph));
    must(cudaGraphInstantiate(&graph_, graph, 0));
    must(cudaEventCreate(&begin_));
    must(cudaEventCreate(&end_));
    stream_ = stream;
  }

  void measure() {
    must(cudaEventRecord(begin_, stream_));
    must(cudaGraphLaunch(graph_, stream_));
    must(cudaEventRecord(end_, stream_));
    must(cudaEventSynchronize(end_));
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, begin_, end_));
    microseconds_.push_back(milliseconds * 1000 / static_cast<float>(launches_));
  }

  float quantile(double q) {
    std::sort(microseconds_.begin(), microseconds_.end());
    return microseconds_[static_cast<std::size_t>(q * (microseconds_.size() - 1))];
  }
  void forget() { microseconds_.clear(); }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  int launches_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::vector<float> microseconds_;
};

/// Shadows of 4 bits of all copies of a cache's keys.
class Shadows {
 public:
  Shadows(const PagedCache& cache, const DecodeArguments& a, std::int64_t side, int copies)
      : plan_(lay_out_shadows({}, a.head_dim, a.kv_heads, cache.pages, cache.rows_per_page,
                              TileOrder::pages)),
        tiles_(static_cast<std::size_t>(plan_.bytes * copies)) {
    DeviceArray<std::int32_t> begin(std::vector<std::int32_t>(a.batch, 0));
    for (int copy = 0; copy < copies; ++copy) {
      KeyShadowArguments arguments{a.batch,       a.kv_heads,   a.head_dim, DType::f16, a.cache,
                                   address(copy), begin.data(), a.lengths,  1024};
      arguments.cache.keys = static_cast<const char*>(a.cache.keys) + side * 2 * copy;
      write_key_shadows(arguments, nullptr);
    }
    must(cudaDeviceSynchronize());
  }

  KeyShadowAddress address(int copy) const {
    KeyShadowAddress address = plan_.address;
    address.tiles = tiles_.data() + plan_.bytes * copy;
    return address;
  }

 private:
  ShadowPlan plan_;
  mutable DeviceArray<char> tiles_;
};

/// log2 of the thresholds at each head's τ-quantile of its softmax scores.
std::vector<float> thresholds_at(const std::vector<double>& scores, int context, double tau) {
  std::vector<float> thresholds;
  for (std::size_t row = 0; row * context < scores.size(); ++row) {
    std::vector<double> sorted(scores.begin() + row * context,
                               scores.begin() + (row + 1) * context);
    const double maximum = *std::max_element(sorted.begin(), sorted.end());
    double sum = 0;
    for (const double score : sorted) sum += std::exp2(score - maximum);
    const auto place = sorted.begin() + static_cast<std::ptrdiff_t>(tau * (context - 1));
    std::nth_element(sorted.begin(), place, sorted.end());
    thresholds.push_back(static_cast<float>(*place - maximum - std::log2(sum)));
  }
  return thresholds;
}

/// Runs steps that take turns, and prints the times of all.
void time_steps(const Cell& cell, const std::vector<Step>& steps, const Facts& facts, int copies,
                int rounds) {
  std::vector<std::unique_ptr<Variant>> variants;
  std::vector<StepCounts> counts;
  for (const Step& step : steps) {
    variants.push_back(std::make_unique<Variant>(step.name, step.launch, copies));
    counts.push_back(count(step, cell, facts));
  }
  for (auto& variant : variants) variant->measure();
  for (auto& variant : variants) variant->forget();
  for (int round = 0; round < rounds; ++round) {
    for (auto& variant : variants) variant->measure();
    for (auto it = variants.rbegin(); it != variants.rend(); ++it) (*it)->measure();
  }
  std::printf(
      "{\"batch\": %d, \"context\": %d, \"heads\": %d, \"kv_heads\": %d, \"head_dim\": %d, "
      "\"copies\": %d",
      cell.batch, cell.context, cell.heads, cell.kv_heads, cell.head_dim, copies);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    Variant& variant = *variants[i];
    std::printf(", \"%s\": {\"median\": %.2f, \"q1\": %.2f, \"q3\": %.2f", variant.name().c_str(),
                variant.quantile(0.5), variant.quantile(0.25), variant.quantile(0.75));
    if (steps[i].sifts) print_densities(steps[i], cell, counts[i]);
    std::printf("}");
  }
  std::printf("}\n");
  std::fflush(stdout);
}

/// Runs each step once between two sweeps of its own, so that whatever happens between steps stands
/// outside of them, and prints what it had to read.
void run_once(const Cell& cell, const std::vector<Step>& steps, const Facts& facts) {
  DeviceArray<uint4> swept(kSweptBytes / sizeof(uint4));
  swept.fill_bytes(0);
  DeviceArray<unsigned> sink(1);
  cudaStream_t stream = nullptr;
  must(cudaStreamCreate(&stream));
  const auto sweep = [&] {
    sweep_cache<<<1056, 512, 0, stream>>>(swept.data(), static_cast<std::int64_t>(swept.size()),
                                          sink.data());
    must(cudaGetLastError());
  };
  for (const Step& step : steps) {
    sweep();
    step.launch(0, stream);
    sweep();
    must(cudaStreamSynchronize(stream));
    const StepCounts counts = count(step, cell, facts);
    std::printf("{\"cell\": \"%dx%dx%dx%dx%d\", \"variant\": \"%s\"", cell.batch, cell.context,
                cell.heads, cell.kv_heads, cell.head_dim, step.name.c_str());
    print_densities(step, cell, counts);
    std::printf(", \"must_read\": %lld}\n",
                static_cast<long long>(bytes_to_read(step, cell, counts)));
    std::fflush(stdout);
  }
  must(cudaStreamDestroy(stream));
}

void run_cell(const Cell& cell, const std::vector<double>& taus, bool once) {
  const std::vector<int> lengths(cell.batch, cell.context);
  const PagedCache cache =
      lay_out({cell.heads, cell.kv_heads, cell.head_dim, lengths, Layout::hnd, 16});
  const std::int64_t side = cache.pages * cache.rows_per_page * cell.kv_heads * cell.head_dim;
  const int copies = once ? 1 : static_cast<int>(kRotatedBytes / (side * 4) + 1);
  DeviceArray<__half> keys(side * copies);
  DeviceArray<__half> values(side * copies);
  DeviceArray<__half> query(static_cast<std::size_t>(cell.batch) * cell.heads * cell.head_dim);
  DeviceArray<__half> output(query.size());
  fill_normal<<<2048, 256>>>(keys.data(), side, 1, 1.0F);
  fill_normal<<<2048, 256>>>(values.data(), side, 2, 1.0F);
  fill_normal<<<2048, 256>>>(query.data(), static_cast<std::int64_t>(query.size()), 3, 1.0F);
  for (int i = 1; i < copies; ++i) {
    must(cudaMemcpy(keys.data() + side * i, keys.data(), side * 2, cudaMemcpyDeviceToDevice));
    must(cudaMemcpy(values.data() + side * i, values.data(), side * 2, cudaMemcpyDeviceToDevice));
  }
  DeviceArray<int> device_lengths(lengths);
  DeviceArray<std::int32_t> table(cache.table);
  DeviceArray<RequestMode> modes(std::vector<RequestMode>(cell.batch, RequestMode::sift));
  const std::size_t rows = static_cast<std::size_t>(cell.batch) * cell.heads;
  const Facts facts(cell);
  DecodeArguments a;
  a.batch = cell.batch;
  a.heads = cell.heads;
  a.kv_heads = cell.kv_heads;
  a.head_dim = cell.head_dim;
  a.scale = 1.0F / std::sqrt(static_cast<float>(cell.head_dim));
  a.query = query.data();
  a.output = output.data();
  a.cache = cache.address;
  a.cache.table = table.data();
  a.lengths = device_lengths.data();
  a.head_facts = facts.heads.data();
  a.group_facts = facts.groups.data();
  const auto with_copy = [&](DecodeArguments b, int copy) {
    b.cache.keys = keys.data() + side * copy;
    b.cache.values = values.data() + side * copy;
    return b;
  };

  DeviceArray<double> device_scores(rows * cell.context);
  reference_scores<__half>
      <<<static_cast<unsigned>(rows), 256>>>(with_copy(a, 0), cell.context, device_scores.data());
  must(cudaDeviceSynchronize());
  const std::vector<double> scores = device_scores.host();

  const DecodeCapacity capacity{
      cell.batch, cell.heads, cell.kv_heads, cell.head_dim, std::int64_t{cell.batch} * cell.context,
      0,          true};
  const std::size_t bytes = decode_workspace_bytes(capacity);
  DeviceArray<char> workspace(bytes);
  const DecodeAttention attention(capacity, DType::f16, workspace.data(), bytes, nullptr);
  must(cudaDeviceSynchronize());

  std::vector<Step> steps;
  DeviceArray<unsigned> sink(1);
  const std::vector<int> reading_blocks = {264, 528, 1056, 2112};
  for (const int blocks : once ? std::vector<int>() : reading_blocks) {
    steps.push_back({"read" + std::to_string(blocks), [&, blocks](int copy, cudaStream_t stream) {
                       read_all<<<blocks, 512, 0, stream>>>(
                           reinterpret_cast<const uint4*>(keys.data() + side * copy),
                           reinterpret_cast<const uint4*>(values.data() + side * copy), side / 8,
                           sink.data());
                     }});
  }
  steps.push_back(
      {"dense", [&](int copy, cudaStream_t stream) { attention.run(with_copy(a, copy), stream); }});
  // A step of the warm-up: exact attention, and the quantiles go to the fits.
  DeviceArray<HeadMethodState> head_states(rows);
  DeviceArray<GroupMethodState> group_states(static_cast<std::size_t>(cell.batch) * cell.kv_heads);
  DeviceArray<std::int32_t> generated(std::vector<std::int32_t>(cell.batch, 1));
  head_states.fill_bytes(0);
  group_states.fill_bytes(0);
  DecodeArguments warm_up = a;
  warm_up.records = true;
  warm_up.method.heads = cell.heads;
  warm_up.method.kv_heads = cell.kv_heads;
  warm_up.method.head_states = head_states.data();
  warm_up.method.group_states = group_states.data();
  warm_up.method.visible = device_lengths.data();
  warm_up.method.generated = generated.data();
  steps.push_back({"warm_up", [&](int copy, cudaStream_t stream) {
                     attention.run(with_copy(warm_up, copy), stream);
                   }});
  std::vector<std::unique_ptr<DeviceArray<float>>> thresholds;
  DecodeArguments with_keys = a;
  with_keys.cache.keys = keys.data();
  const Shadows shadows(cache, with_keys, side, copies);
  for (const double tau : taus) {
    thresholds.push_back(
        std::make_unique<DeviceArray<float>>(thresholds_at(scores, cell.context, tau)));
    DecodeArguments b = a;
    b.modes = modes.data();
    b.exact = false;
    b.thresholds = thresholds.back()->data();
    const std::string at = std::to_string(tau).substr(0, 5);
    steps.push_back(
        {"sift" + at,
         [&, b](int copy, cudaStream_t stream) { attention.run(with_copy(b, copy), stream); },
         true});
    for (const float margin : {0.0F, 0.5F}) {
      b.margin = margin;
      steps.push_back({"estimated" + at + "/" + std::to_string(margin).substr(0, 3),
                       [&, b](int copy, cudaStream_t stream) {
                         DecodeArguments d = with_copy(b, copy);
                         d.shadows = shadows.address(copy);
                         attention.run(d, stream);
                       },
                       true, true});
    }
  }
  if (once) {
    run_once(cell, steps, facts);
  } else {
    time_steps(cell, steps, facts, copies, 20);
  }
}

}  // namespace
}  // namespace sift::cuda

// Arguments: --once or not, then cells as BATCHxCONTEXT or BATCHxCONTEXTxHEADSxKV_HEADSxHEAD_DIM.
int main(int argc, char** argv) {
  const bool once = argc > 1 && std::strcmp(argv[1], "--once") == 0;
  for (int i = once ? 2 : 1; i < argc; ++i) {
    sift::cuda::Cell cell;
    std::sscanf(argv[i], "%dx%dx%dx%dx%d", &cell.batch, &cell.context, &cell.heads, &cell.kv_heads,
                &cell.head_dim);
    sift::cuda::run_cell(cell, {0.5, 0.75, 0.875, 0.95}, once);
  }
  return 0;
}
