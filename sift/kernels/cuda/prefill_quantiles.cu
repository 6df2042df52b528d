#include "sift/kernels/cuda/prefill_quantiles.h"

#include <vector>

#include "sift/attention/calibration.h"
#include "sift/kernels/cuda/argument_checks.h"
#include "sift/kernels/cuda/decode_workspace.h"
#include "sift/kernels/cuda/method.cuh"
#include "sift/kernels/cuda/method_checks.h"
#include "sift/kernels/cuda/workspace_cutter.h"

namespace sift::cuda {
namespace {

constexpr ArgumentChecks kChecks("quantiles of a prompt");

constexpr int kMostRows = 128;  // of one launch
constexpr int kReadyThreads = 128;
constexpr int kFitThreads = 64;

/// Rows of a prompt that run together, by value, so that no memory of the host has to outlive a
/// launch.
struct RowList {
  int count = 0;
  std::int32_t visible[kMostRows] = {};
};

/// The rows as a batch of decode attention, one request each.
struct RowBatch {
  char* query = nullptr;        // [rows, heads, head_dim]
  char* output = nullptr;       // [rows, heads, head_dim], of no interest
  double* ln_thetas = nullptr;  // [rows, heads]
  double* taus = nullptr;       // [rows]; as the arrays below
  std::int32_t* visible = nullptr;
  std::int32_t* generated = nullptr;
  std::int32_t* slots = nullptr;
  std::int32_t* table_begin = nullptr;
  RowMode* modes = nullptr;
};

struct CutWorkspace {
  RowBatch batch;
  char* attention = nullptr;
  std::size_t bytes = 0;
};

std::int64_t most_keys(const PrefillQuantilesCapacity& c) {
  return c.keys > 0 ? c.keys : 4 * c.longest;
}

std::int64_t query_bytes(const PrefillQuantilesCapacity& c) {
  return std::int64_t{2} * c.heads * c.head_dim;  // f16 and bf16
}

DecodeCapacity attention_capacity(const PrefillQuantilesCapacity& c) {
  return {kMostRows, c.heads, c.kv_heads, c.head_dim, most_keys(c), c.longest};
}

CutWorkspace cut(const PrefillQuantilesCapacity& c, void* memory) {
  kChecks.require(c.longest >= 1 && c.longest <= kMostKeys, "the longest prompt", c.longest,
                  "1 to 262144 tokens");
  kChecks.require(c.keys == 0 || c.keys >= c.longest, "the number of keys", c.keys,
                  "0, or at least the tokens of the longest prompt");
  const std::size_t attention_bytes = decode_workspace_bytes(attention_capacity(c));
  WorkspaceCutter cutter(memory);
  CutWorkspace result;
  RowBatch& batch = result.batch;
  batch.query = cutter.take<char>(kMostRows * query_bytes(c));
  batch.output = cutter.take<char>(kMostRows * query_bytes(c));
  batch.ln_thetas = cutter.take<double>(std::int64_t{kMostRows} * c.heads);
  batch.taus = cutter.take<double>(kMostRows);
  batch.visible = cutter.take<std::int32_t>(kMostRows);
  batch.generated = cutter.take<std::int32_t>(kMostRows);
  batch.slots = cutter.take<std::int32_t>(kMostRows);
  batch.table_begin = cutter.take<std::int32_t>(kMostRows);
  batch.modes = cutter.take<RowMode>(kMostRows);
  result.attention = cutter.take<char>(static_cast<std::int64_t>(attention_bytes));
  result.bytes = cutter.bytes();
  return result;
}

/// Part of the workspace, once it is known to be large enough.
char* attention_workspace(const PrefillQuantilesCapacity& c, void* memory, std::size_t bytes) {
  const CutWorkspace parts = cut(c, memory);
  kChecks.workspace(bytes, parts.bytes);
  return parts.attention;
}

/// How many of the rows run in one launch.
std::size_t rows_together(std::span<const std::int64_t> rows, std::int64_t keys) {
  std::size_t count = 0;
  while (count < rows.size() && count < kMostRows && rows[count] <= keys) keys -= rows[count++];
  return count;
}

// One block a row: gathers its query and tells where its keys and its states are.
__global__ void ready_rows(const __grid_constant__ PrefillQuantilesArguments arguments,
                           const __grid_constant__ RowList rows,
                           const __grid_constant__ RowBatch batch, int head_dim) {
  const int row = static_cast<int>(blockIdx.x);
  const MethodStep& method = arguments.method;
  const std::int64_t token = rows.visible[row] - 1 - arguments.first;
  const int vectors = method.heads * head_dim / 8;  // of 16 bytes
  const auto* from = static_cast<const uint4*>(arguments.query) + token * vectors;
  auto* to = reinterpret_cast<uint4*>(batch.query) + std::int64_t{row} * vectors;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kReadyThreads) to[i] = from[i];
  if (threadIdx.x != 0) return;
  const int request = arguments.request;
  const CacheAddress& cache = arguments.cache;
  batch.taus[row] = method.taus == nullptr ? method.options.tau : method.taus[request];
  batch.visible[row] = rows.visible[row];
  batch.generated[row] = 0;
  batch.slots[row] = request_slot(method, request);
  batch.table_begin[row] = cache.table_begin == nullptr
                               ? static_cast<std::int32_t>(request * cache.table_stride)
                               : cache.table_begin[request];
  batch.modes[row] = RowMode::record;
}

// One thread a head: its rows share a state, which takes them in order.
__global__ void fit_rows(const __grid_constant__ MethodStep method, int rows) {
  const int head = static_cast<int>(blockIdx.x * kFitThreads + threadIdx.x);
  if (head >= method.heads) return;
  HeadState& state = head_state(method, 0, head).head;
  LogLogFit fit = state.fit;
  for (int row = 0; row < rows; ++row) {
    fit.add(method.visible[row], method.ln_thetas[std::int64_t{row} * method.heads + head]);
  }
  state.fit = fit;
  state.law = fit.solve(method.options.fit);
  state.fitted = true;
}

/// The cache as the rows see it: of one request, by each of them.
CacheAddress shared_cache(const PrefillQuantilesArguments& a, const RowBatch& batch) {
  CacheAddress cache = a.cache;
  if (cache.table != nullptr) {
    cache.table_begin = batch.table_begin;
    return cache;
  }
  // A contiguous cache has a page for each request.
  const std::int64_t offset = a.request * cache.page_stride;
  cache.keys = static_cast<const char*>(cache.keys) + offset;
  cache.values = static_cast<const char*>(cache.values) + offset;
  cache.page_stride = 0;
  return cache;
}

DecodeArguments decode_arguments(const PrefillQuantilesCapacity& c,
                                 const PrefillQuantilesArguments& a, const RowBatch& batch,
                                 int rows) {
  DecodeArguments decode;
  decode.batch = rows;
  decode.heads = c.heads;
  decode.kv_heads = c.kv_heads;
  decode.head_dim = c.head_dim;
  decode.scale = a.scale;
  decode.query = batch.query;
  decode.output = batch.output;
  decode.cache = shared_cache(a, batch);
  decode.lengths = batch.visible;
  decode.records = true;
  decode.method = a.method;
  decode.method.options.estimates = false;  // rows that record attend exactly, whatever the policy
  decode.method.visible = batch.visible;
  decode.method.generated = batch.generated;
  decode.method.slots = batch.slots;
  decode.method.taus = batch.taus;
  decode.method.modes = batch.modes;
  decode.method.decode_records = nullptr;
  decode.method.ln_thetas = batch.ln_thetas;
  return decode;
}

}  // namespace

std::size_t prefill_quantiles_workspace_bytes(const PrefillQuantilesCapacity& capacity) {
  return cut(capacity, nullptr).bytes;
}

PrefillQuantiles::PrefillQuantiles(const PrefillQuantilesCapacity& capacity, DType type,
                                   void* workspace, std::size_t bytes, cudaStream_t stream)
    : capacity_(capacity),
      workspace_(workspace),
      attention_(attention_capacity(capacity), type,
                 attention_workspace(capacity, workspace, bytes),
                 decode_workspace_bytes(attention_capacity(capacity)), stream) {}

void PrefillQuantiles::check(const PrefillQuantilesArguments& a) const {
  kChecks.aligned(a.query, "the query");
  kChecks.present(a.cache.keys, "the key cache");
  kChecks.present(a.cache.values, "the value cache");
  kChecks.present(a.method.head_states, "the states of query heads");
  kChecks.present(a.method.group_states, "the states of KV heads");
  kChecks.require(a.method.heads == capacity_.heads, "the number of query heads", a.method.heads,
                  "that of the capacity");
  kChecks.require(a.method.kv_heads == capacity_.kv_heads, "the number of KV heads",
                  a.method.kv_heads, "that of the capacity");
  kChecks.require(a.prompt >= 1 && a.prompt <= capacity_.longest, "the prompt", a.prompt,
                  "1 to the capacity's tokens");
  kChecks.require(a.first >= 0 && a.first < a.prompt, "the beginning of the chunk", a.first,
                  "a token of the prompt");
  kChecks.require(a.tokens >= 1 && a.tokens <= a.prompt - a.first, "the length of the chunk",
                  a.tokens, "1 to the tokens of the prompt that are left");
  check_method(kChecks, a.method.options);
  kChecks.require(a.warmup >= 2, "the warm-up", a.warmup, "at least 2 records");
  kChecks.require(a.request >= 0, "the request", a.request, "at least 0");
}

int PrefillQuantiles::run(const PrefillQuantilesArguments& arguments, cudaStream_t stream) const {
  check(arguments);
  if (arguments.prompt < kMinimumPrefillCalibration) return 0;
  const std::vector<std::int64_t> rows =
      prefill_records(arguments.first + 1, arguments.first + arguments.tokens, arguments.warmup);
  for (std::span<const std::int64_t> rest = rows; !rest.empty();) {
    const std::size_t count = rows_together(rest, most_keys(capacity_));
    run_rows(arguments, rest.first(count), stream);
    rest = rest.subspan(count);
  }
  return static_cast<int>(rows.size());
}

void PrefillQuantiles::run_rows(const PrefillQuantilesArguments& arguments,
                                std::span<const std::int64_t> rows, cudaStream_t stream) const {
  const RowBatch batch = cut(capacity_, workspace_).batch;
  RowList list;
  for (const std::int64_t row : rows) list.visible[list.count++] = static_cast<std::int32_t>(row);
  const DecodeArguments decode = decode_arguments(capacity_, arguments, batch, list.count);
  ready_rows<<<list.count, kReadyThreads, 0, stream>>>(arguments, list, batch, capacity_.head_dim);
  kChecks.cuda(cudaGetLastError(), "readying the rows");
  attention_.run(decode, stream);
  fit_rows<<<(capacity_.heads + kFitThreads - 1) / kFitThreads, kFitThreads, 0, stream>>>(
      decode.method, list.count);
  kChecks.cuda(cudaGetLastError(), "fitting the power laws");
}

}  // namespace sift::cuda
