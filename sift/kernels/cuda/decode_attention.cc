#include "sift/kernels/cuda/decode_attention.h"

#include <algorithm>
#include <bit>

#include "sift/kernels/cuda/argument_checks.h"
#include "sift/kernels/cuda/decode_launch.h"
#include "sift/kernels/cuda/shadow_checks.h"
#include "sift/kernels/cuda/workspace_cutter.h"

namespace sift::cuda {
namespace {

constexpr ArgumentChecks kChecks("decode attention");

void check_capacity(const DecodeCapacity& c) {
  kChecks.require(c.batch >= 1 && c.batch <= kMaximumBatch, "the batch", c.batch,
                  "1 to 512 requests");
  kChecks.require(c.kv_heads >= 1, "the number of KV heads", c.kv_heads, "at least 1");
  kChecks.require(
      c.heads >= c.kv_heads && c.heads % c.kv_heads == 0 && c.heads / c.kv_heads <= kMaximumGroup,
      "the number of query heads", c.heads, "1 to 16 for each KV head");
  kChecks.require(c.head_dim == 64 || c.head_dim == 96 || c.head_dim == 128 || c.head_dim == 256,
                  "the head dimension", c.head_dim, "64, 96, 128 or 256");
  kChecks.require(c.keys >= 1, "the number of keys", c.keys, "at least 1");
  kChecks.require(c.longest >= 0 && c.longest <= kMostKeys, "the number of keys of one request",
                  c.longest, "at most 262144");
}

struct CutWorkspace {
  DecodeWorkspace arrays;
  std::size_t counter_bytes = 0;  ///< at the beginning
  std::size_t bytes = 0;
};

CutWorkspace cut(const DecodeCapacity& c, void* memory) {
  const std::int64_t group = c.heads / c.kv_heads;
  const std::int64_t runs = (c.keys / kLeastItemKeys + c.batch) * c.kv_heads;
  // Of each kind; some are shorter (KeyCut).
  const std::int64_t items = 2 * runs + std::int64_t{4} * c.batch * c.kv_heads;
  kChecks.require(items < (std::int64_t{1} << 30), "the number of keys", c.keys, "fewer");
  WorkspaceCutter cutter(memory);
  CutWorkspace result;
  DecodeWorkspace& w = result.arrays;
  w.group = static_cast<int>(group);
  if (std::has_single_bit(static_cast<unsigned>(group))) {
    w.log_group = std::countr_zero(static_cast<unsigned>(group));
  }
  w.item_capacity = static_cast<int>(items);
  w.score_capacity = runs * kScoreRowPadding;
  w.step = cutter.take<StepProgress>(1);
  w.units = cutter.take<UnitProgress>(std::int64_t{c.batch} * c.kv_heads);
  w.kept = cutter.take<KeptCount>(std::int64_t{c.batch} * c.heads);
  result.counter_bytes = cutter.bytes();
  w.plans = cutter.take<HeadPlan>(std::int64_t{c.batch} * c.heads);
  if (c.estimates) {
    w.rescored_sums = cutter.take<RescoredSum>(items * group);
    w.candidate_counts = cutter.take<std::int32_t>(items * kBlockWarps);
    w.candidate_rows = cutter.take<CandidateRow>(w.score_capacity);
  }
  w.log_sum_exp = cutter.take<float>(std::int64_t{c.batch} * c.heads);
  w.item_sums = cutter.take<ItemSum>(items * group);
  w.item_masses = cutter.take<float>(items * group);
  w.partials = cutter.take<float>(items * group * c.head_dim);
  w.scores = cutter.take<float>(w.score_capacity * group);
  result.bytes = cutter.bytes();
  return result;
}

std::int64_t longest(const DecodeCapacity& c) {
  return c.longest > 0 ? c.longest : std::min<std::int64_t>(c.keys, kMostKeys);
}

DecodeKernelChoice choice(const DecodeCapacity& c, DType type, bool estimates, bool overlaps) {
  const int group = c.heads / c.kv_heads;
  return {c.head_dim, type == DType::bf16, group > 8 ? 16 : group > 4 ? 8 : 4,
          c.batch,    estimates,           overlaps};
}

}  // namespace

std::size_t decode_workspace_bytes(const DecodeCapacity& capacity) {
  check_capacity(capacity);
  return cut(capacity, nullptr).bytes;
}

DecodeAttention::DecodeAttention(const DecodeCapacity& capacity, DType type, void* workspace,
                                 std::size_t bytes, cudaStream_t stream)
    : capacity_(capacity), type_(type), workspace_(workspace) {
  check_capacity(capacity);
  if (type != DType::f16 && type != DType::bf16) {
    kChecks.refuse("the cache has a type that it does not serve, expected f16 or bf16");
  }
  const CutWorkspace parts = cut(capacity, workspace);
  kChecks.workspace(bytes, parts.bytes);
  kChecks.cuda(cudaMemsetAsync(workspace, 0, parts.counter_bytes, stream),
               "clearing the workspace");
  int device = 0;
  int processors = 0;
  kChecks.cuda(cudaGetDevice(&device), "finding the device");
  kChecks.cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
               "asking the device");
  kChecks.cuda(decode_overlaps(choice(capacity, type, false, false), overlaps_),
               "looking at the kernels of decode attention");
  blocks_ = ready_kernels(false, processors);
  if (capacity.estimates) estimating_blocks_ = ready_kernels(true, processors);
  kChecks.cuda(plan_record_quantiles(capacity.batch, capacity.heads, capacity.kv_heads,
                                     longest(capacity), records_),
               "readying the quantiles");
}

DecodeBlocks DecodeAttention::ready_kernels(bool estimates, int processors) const {
  DecodeBlocks fit;
  kChecks.cuda(prepare_decode(choice(capacity_, type_, estimates, overlaps_), fit),
               "readying decode attention, which may need more shared memory than the device has");
  const int least =
      std::min({fit.dense, fit.scores, fit.values, estimates ? fit.candidates : fit.values});
  kChecks.require(least >= 1, "the number of blocks that fit a multiprocessor", least,
                  "at least 1");
  const std::int64_t items =
      (capacity_.keys / kLeastItemKeys + capacity_.batch) * capacity_.kv_heads;
  const auto blocks = [&](int per_processor) {
    return static_cast<int>(std::min<std::int64_t>(items, per_processor * processors));
  };
  return {fit.dense * processors, blocks(fit.scores), blocks(fit.candidates), blocks(fit.values)};
}

void DecodeAttention::check_estimates(const DecodeArguments& a) const {
  if (!capacity_.estimates) {
    kChecks.refuse("there are shadows of keys, expected none: the plan is not for estimates");
  }
  kChecks.require(a.margin >= 0, "the margin", a.margin, "at least 0");
  check_shadows(kChecks, a.shadows, a.head_dim);
}

void DecodeAttention::check(const DecodeArguments& a) const {
  kChecks.require(a.batch >= 1 && a.batch <= capacity_.batch, "the batch", a.batch,
                  "1 to what the plan was made for");
  kChecks.require(a.heads == capacity_.heads, "the number of query heads", a.heads,
                  "that of the plan");
  kChecks.require(a.kv_heads == capacity_.kv_heads, "the number of KV heads", a.kv_heads,
                  "that of the plan");
  kChecks.require(a.head_dim == capacity_.head_dim, "the head dimension", a.head_dim,
                  "that of the plan");
  kChecks.present(a.query, "the query");
  if (reinterpret_cast<std::uintptr_t>(a.query) % 16 != 0) {
    kChecks.refuse("the query does not begin at a multiple of 16 bytes");
  }
  kChecks.present(a.output, "the output");
  kChecks.present(a.cache.keys, "the key cache");
  kChecks.present(a.cache.values, "the value cache");
  kChecks.present(a.lengths, "the array of lengths");
  const bool has_method = a.method.head_states != nullptr;
  if (!a.exact && a.records) kChecks.refuse("a request may record, but none may attend exactly");
  if (!a.exact && a.gated) kChecks.refuse("requests are gated, but none may attend exactly");
  if (has_method) {
    kChecks.require(a.method.heads == a.heads, "the number of query heads of the method",
                    a.method.heads, "that of the plan");
    kChecks.require(a.method.kv_heads == a.kv_heads, "the number of KV heads of the method",
                    a.method.kv_heads, "that of the plan");
    kChecks.present(a.method.group_states, "the states of KV heads");
    kChecks.present(a.method.visible, "the array of visible keys");
    kChecks.present(a.method.generated, "the array of generated rows");
    if (a.method.options.estimates != (a.shadows.tiles != nullptr)) {
      kChecks.refuse(a.method.options.estimates
                         ? "the method estimates scores, but there are no shadows of keys"
                         : "there are shadows of keys, but the method does not estimate scores");
    }
  } else {
    if (!a.exact && a.modes == nullptr) kChecks.refuse("all requests attend exactly, but none may");
    if (a.records) kChecks.refuse("quantiles are asked for without the method's states");
    if (a.modes != nullptr) kChecks.present(a.thresholds, "the array of thresholds");
  }
  if (a.compensation == Compensation::mean && (has_method || a.modes != nullptr)) {
    kChecks.present(a.value_means, "the array of value means");
  }
  if (a.shadows.tiles != nullptr) check_estimates(a);
  const CacheAddress& cache = a.cache;
  const auto aligned = [](std::int64_t stride) { return stride >= 0 && stride % 16 == 0; };
  kChecks.require(aligned(cache.page_stride), "the page stride", cache.page_stride,
                  "a multiple of 16");
  kChecks.require(aligned(cache.slot_stride), "the slot stride", cache.slot_stride,
                  "a multiple of 16");
  kChecks.require(aligned(cache.head_stride), "the head stride", cache.head_stride,
                  "a multiple of 16");
  if (cache.table != nullptr) {
    kChecks.require(cache.page_shift >= 4 && cache.page_shift <= 30, "log2 of the page size",
                    cache.page_shift, "4 to 30 (pages of at least 16 keys)");
  }
  kChecks.require(a.sink >= 0, "sink", a.sink, "at least 0");
  kChecks.require(a.recent >= 0, "recent", a.recent, "at least 0");
}

void DecodeAttention::run(const DecodeArguments& arguments, cudaStream_t stream) const {
  check(arguments);
  const DecodeWorkspace arrays = cut(capacity_, workspace_).arrays;
  const bool estimates = arguments.shadows.tiles != nullptr;
  kChecks.cuda(launch_decode({choice(capacity_, type_, estimates, overlaps_),
                              estimates ? estimating_blocks_ : blocks_, arguments, arrays, stream}),
               "launching decode attention");
  if (!arguments.records || arguments.method.head_states == nullptr) return;
  kChecks.cuda(
      launch_record_quantiles(
          records_, {arguments.batch, arguments.method, arrays.scores, arrays.log_sum_exp}, stream),
      "launching the quantiles");
}

}  // namespace sift::cuda
