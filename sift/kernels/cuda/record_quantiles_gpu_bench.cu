// Times record_quantiles: CUDA graphs of launches whose scores lie in the L2 cache, where attention
// leaves them. One JSON object a line.

#include <cstdio>
#include <string>

#include "sift/kernels/cuda/device_array.h"
#include "sift/kernels/cuda/record_quantiles.h"

namespace sift::cuda {
namespace {

constexpr int kLaunches = 20;
constexpr int kRounds = 50;

struct Cell {
  int batch, keys;
  int heads = 32;
  int kv_heads = 8;
};

// About normal: the sum of twelve uniform numbers.
__global__ void fill_scores(float* scores, std::int64_t count, float deviation) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < count; i += step) {
    std::uint64_t state = static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15U + 1;
    float sum = -6;
    for (int j = 0; j < 12; ++j) {
      state ^= state >> 29;
      state *= 0xBF58476D1CE4E5B9U;
      sum += static_cast<float>(state >> 40) * 0x1p-24F;
    }
    scores[i] = sum * deviation;
  }
}

float median_microseconds(cudaGraphExec_t graph, cudaStream_t stream) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  must(cudaEventCreate(&begin));
  must(cudaEventCreate(&end));
  std::vector<float> times;
  for (int round = 0; round < kRounds + 3; ++round) {
    must(cudaEventRecord(begin, stream));
    must(cudaGraphLaunch(graph, stream));
    must(cudaEventRecord(end, stream));
    must(cudaEventSynchronize(end));
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, begin, end));
    if (round >= 3) times.push_back(milliseconds * 1000 / kLaunches);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

float time_launches(const RecordQuantilesPlan& plan, const RecordQuantilesArguments& arguments) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  must(cudaStreamCreate(&stream));
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < kLaunches; ++i) must(launch_record_quantiles(plan, arguments, stream));
  must(cudaStreamEndCapture(stream, &graph));
  must(cudaGraphInstantiate(&executable, graph, 0));
  return median_microseconds(executable, stream);
}

void time_cell(const Cell& cell, float deviation, RowMode mode) {
  const std::size_t rows = static_cast<std::size_t>(cell.batch) * cell.heads;
  const DeviceArray<float> scores(rows * cell.keys);
  fill_scores<<<1024, 256>>>(scores.data(), static_cast<std::int64_t>(scores.size()), deviation);
  // log2 of the mean of 2^score is deviation² ln 2 / 2.
  const auto lse = static_cast<float>(std::log2(cell.keys) + deviation * deviation * 0.34657);
  const DeviceArray<float> log_sum_exp(std::vector<float>(rows, lse));
  const DeviceArray<std::int32_t> visible(std::vector<std::int32_t>(cell.batch, cell.keys));
  const DeviceArray<std::int32_t> generated(std::vector<std::int32_t>(cell.batch, 1));
  const DeviceArray<RowMode> modes(std::vector<RowMode>(cell.batch, mode));
  DeviceArray<HeadMethodState> states(rows);
  states.fill_bytes(0);
  RecordQuantilesArguments arguments;
  arguments.batch = cell.batch;
  arguments.method.heads = cell.heads;
  arguments.method.kv_heads = cell.kv_heads;
  arguments.method.head_states = states.data();
  arguments.method.visible = visible.data();
  arguments.method.generated = generated.data();
  arguments.method.modes = modes.data();
  arguments.scores = scores.data();
  arguments.log_sum_exp = log_sum_exp.data();

  RecordQuantilesPlan plan;
  must(plan_record_quantiles(cell.batch, cell.heads, cell.kv_heads, cell.keys, plan));
  std::printf(
      "{\"batch\": %d, \"keys\": %d, \"heads\": %d, \"kv_heads\": %d, \"deviation\": %g, "
      "\"records\": %s, \"planned_blocks\": %d, \"microseconds_by_blocks\": {",
      cell.batch, cell.keys, cell.heads, cell.kv_heads, deviation,
      mode == RowMode::record ? "true" : "false", plan.blocks_per_group);
  for (const int blocks : {1, 2, 4, 8}) {
    std::printf("%s\"%d\": %.2f", blocks == 1 ? "" : ", ", blocks,
                time_launches({blocks}, arguments));
  }
  std::printf("}}\n");
  std::fflush(stdout);
}

}  // namespace

void time_record_quantiles() {
  for (const Cell& cell : {Cell{8, 8192}, Cell{8, 32768}, Cell{1, 131072}, Cell{1, 8192},
                           Cell{64, 2048}, Cell{8, 8192, 32, 32}, Cell{8, 8192, 28, 4}}) {
    time_cell(cell, 1.44F, RowMode::record);
  }
  // Scores so close together that one pass cannot tell them apart; and nothing to do.
  time_cell({8, 8192}, 0.001F, RowMode::record);
  time_cell({8, 8192}, 1.44F, RowMode::sift);
}

}  // namespace sift::cuda
