// The operator of decode attention: tensors in, DecodeArguments out. What it computes is described
// in siftattention/attention.py; nothing here depends on the version of Python.

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

#include "cache_arguments.h"
#include "key_shadows.h"
#include "method_states.h"
#include "sift/kernels/cuda/decode_attention.h"
#include "tensor_arguments.h"

namespace siftattention {
namespace {

using sift::cuda::Compensation;
using sift::cuda::DecodeArguments;
using sift::cuda::DecodeAttention;
using sift::cuda::DecodeCapacity;
using sift::cuda::EmptyHead;
using sift::cuda::RequestMode;
using sift::cuda::StepGroupFacts;
using sift::cuda::StepHeadFacts;

static_assert(sizeof(StepHeadFacts) == 4 * sizeof(std::int32_t));
static_assert(sizeof(StepGroupFacts) == 3 * sizeof(std::int32_t));
static_assert(sizeof(RequestMode) == 1);

Compensation parse_compensation(std::string_view name) {
  if (name == "none") return Compensation::none;
  if (name == "renormalise") return Compensation::renormalise;
  TORCH_CHECK_VALUE(name == "mean", "compensation is '", name,
                    "', expected 'none', 'renormalise' or 'mean'");
  return Compensation::mean;
}

EmptyHead parse_empty(std::string_view name) {
  if (name == "zero") return EmptyHead::zero;
  TORCH_CHECK_VALUE(name == "highest", "empty is '", name, "', expected 'zero' or 'highest'");
  return EmptyHead::highest;
}

/// That keys and values are alike, and like the query.
void check_cache(const Tensor& query, const Tensor& keys, const Tensor& values) {
  for (const auto& [side, name] :
       {std::pair(&keys, "key_cache"), std::pair(&values, "value_cache")}) {
    check_side(*side, name, query.device(), query.size(2), "the query is");
    TORCH_CHECK_TYPE(side->scalar_type() == query.scalar_type(), name, " has type ",
                     side->scalar_type(), ", expected ", query.scalar_type(),
                     ", which the query has");
  }
  TORCH_CHECK_VALUE(keys.sizes() == values.sizes() && keys.strides() == values.strides(),
                    "key_cache has sizes ", keys.sizes(), " and strides ", keys.strides(),
                    ", value_cache ", values.sizes(), " and ", values.strides(),
                    ", expected the same");
}

/// Plans, each for one workspace; making one asks the device and clears the workspace's counters.
class Plans {
 public:
  std::shared_ptr<const DecodeAttention> get(const DecodeCapacity& capacity, sift::DType type,
                                             const Tensor& workspace, cudaStream_t stream) {
    const Key key{workspace.get_device(), workspace.data_ptr(),
                  workspace.nbytes(),     capacity.batch,
                  capacity.heads,         capacity.kv_heads,
                  capacity.head_dim,      capacity.keys,
                  capacity.estimates,     type};
    const std::lock_guard lock(mutex_);
    if (plans_.size() > kMost) plans_.clear();
    std::shared_ptr<const DecodeAttention>& plan = plans_[key];
    if (plan == nullptr) {
      plan = std::make_shared<DecodeAttention>(capacity, type, workspace.data_ptr(),
                                               workspace.nbytes(), stream);
    }
    return plan;
  }

 private:
  using Key = std::tuple<int, const void*, std::size_t, int, int, int, int, std::int64_t, bool,
                         sift::DType>;
  static constexpr std::size_t kMost = 256;
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const DecodeAttention>> plans_;
};

DecodeCapacity capacity_of(std::int64_t batch, std::int64_t heads, std::int64_t kv_heads,
                           std::int64_t head_dim, std::int64_t keys, bool estimates) {
  DecodeCapacity capacity;
  capacity.batch = whole(batch, "batch");
  capacity.heads = whole(heads, "heads");
  capacity.kv_heads = whole(kv_heads, "kv_heads");
  capacity.head_dim = whole(head_dim, "head_dim");
  capacity.keys = keys;
  capacity.estimates = estimates;
  return capacity;
}

std::int64_t decode_workspace_size(std::int64_t batch, std::int64_t heads, std::int64_t kv_heads,
                                   std::int64_t head_dim, std::int64_t keys, bool estimates) {
  return with_value_errors([&] {
    return static_cast<std::int64_t>(sift::cuda::decode_workspace_bytes(
        capacity_of(batch, heads, kv_heads, head_dim, keys, estimates)));
  });
}

/// Sizes, and the scale, which is 1 / √head_dim if left out.
void set_sizes(DecodeArguments& a, const Tensor& query, std::int64_t kv_heads,
               std::optional<double> scale) {
  a.batch = whole(query.size(0), "the batch");
  a.heads = whole(query.size(1), "the number of query heads");
  a.kv_heads = whole(kv_heads, "the number of KV heads");
  a.head_dim = whole(query.size(2), "the head dimension");
  a.scale = static_cast<float>(scale.value_or(1 / std::sqrt(static_cast<double>(a.head_dim))));
}

void set_margin(DecodeArguments& a, double margin, bool estimates) {
  TORCH_CHECK_VALUE(margin >= 0, "margin is ", margin, ", expected at least 0");
  TORCH_CHECK_VALUE(estimates,
                    "there are shadows of keys, but the workspace was allocated without estimates");
  a.margin = static_cast<float>(margin);
}

/// What the method and the other arguments have in common.
void complete_method(DecodeArguments& a, bool records) {
  if (a.method.head_states == nullptr) return;
  TORCH_CHECK_VALUE(a.thresholds == nullptr,
                    "there are thresholds and the method's states, which have their own");
  a.method.options.sink = a.sink;
  a.method.options.recent = a.recent;
  a.method.options.estimates = a.shadows.tiles != nullptr;
  a.records = records;
}

void decode_attention_out(
    const Tensor& query, const Tensor& key_cache, const Tensor& value_cache, const Tensor& lengths,
    Tensor& workspace, std::int64_t batch_capacity, std::int64_t key_capacity, Tensor& out,
    bool estimates, const std::optional<Tensor>& table, const std::optional<Tensor>& table_begin,
    std::string_view layout, std::optional<double> scale, const std::optional<Tensor>& modes,
    const std::optional<Tensor>& thresholds, bool exact, bool gated,
    const std::optional<Tensor>& value_means, std::string_view compensation, std::string_view empty,
    std::int64_t sink, std::int64_t recent, const std::optional<Tensor>& tiles,
    std::string_view code, std::int64_t block, std::string_view order, double margin,
    const std::optional<Tensor>& head_states, const std::optional<Tensor>& group_states,
    const std::optional<Tensor>& generated, const std::optional<Tensor>& slots,
    const std::optional<Tensor>& taus, const std::optional<Tensor>& warmups,
    const std::optional<Tensor>& ln_thetas, bool records, double tau, std::string_view fit,
    double adapt, std::string_view adapt_target, std::int64_t warmup, std::int64_t dense_rows,
    const std::optional<Tensor>& log_sum_exp, const std::optional<Tensor>& head_facts,
    const std::optional<Tensor>& group_facts) {
  TORCH_CHECK_VALUE(query.dim() == 3, "query has ", query.dim(),
                    " dimensions, expected [batch, heads, head_dim]");
  const at::Device device = query.device();
  const std::int64_t batch = query.size(0);
  const std::int64_t heads = query.size(1);
  const std::int64_t head_dim = query.size(2);
  check_array(query, "query", device, query.scalar_type(), query.sizes());
  check_alignment(query, "query", 16);
  check_array(out, "out", device, query.scalar_type(), query.sizes());
  check_array(lengths, "lengths", device, at::kInt, {batch});
  check_array(workspace, "workspace", device, at::kByte, {workspace.numel()});

  const sift::DType type = half_type(query, "query");
  check_cache(query, key_cache, value_cache);
  DecodeArguments a;
  a.cache = address_of_keys(key_cache, batch, layout, {table, table_begin}, "the query is");
  a.cache.values = value_cache.data_ptr();
  const std::int64_t kv_heads = key_cache.size(parse_layout(layout).head);
  set_sizes(a, query, kv_heads, scale);
  a.query = query.data_ptr();
  a.output = out.data_ptr();
  a.lengths = lengths.data_ptr<std::int32_t>();
  a.modes = reinterpret_cast<const RequestMode*>(
      optional_array<std::uint8_t>(modes, "modes", device, at::kByte, {batch}));
  a.thresholds =
      optional_array<float>(thresholds, "thresholds", device, at::kFloat, {batch, heads});
  a.exact = exact;
  a.gated = gated;
  a.value_means = optional_array<float>(value_means, "value_means", device, at::kFloat,
                                        {batch, kv_heads, head_dim});
  a.log_sum_exp =
      optional_array<float>(log_sum_exp, "log_sum_exp", device, at::kFloat, {batch, heads});
  a.head_facts =
      optional_array<StepHeadFacts>(head_facts, "head_facts", device, at::kInt, {batch, heads, 4});
  a.group_facts = optional_array<StepGroupFacts>(group_facts, "group_facts", device, at::kInt,
                                                 {batch, kv_heads, 3});
  a.compensation = parse_compensation(compensation);
  a.empty = parse_empty(empty);
  a.sink = whole(sink, "sink");
  a.recent = whole(recent, "recent");
  if (tiles.has_value()) {
    a.shadows = address_of_shadows(*tiles, parse_shadow_format(code, block, order, head_dim),
                                   key_cache, layout);
    set_margin(a, margin, estimates);
  }
  const MethodTensors method{head_states, group_states, lengths, generated, slots,
                             taus,        warmups,      modes,   ln_thetas};
  a.method = method_step(method, heads, kv_heads,
                         method_options(tau, fit, adapt, adapt_target, warmup, dense_rows));
  complete_method(a, records);

  TORCH_CHECK_VALUE(device.is_cuda(), "query is on ", device, ", expected a CUDA device");
  const c10::cuda::CUDAGuard guard(device);
  static Plans plans;
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device.index()).stream();
  with_value_errors([&] {
    const DecodeCapacity capacity =
        capacity_of(batch_capacity, heads, kv_heads, head_dim, key_capacity, estimates);
    plans.get(capacity, type, workspace, stream)->run(a, stream);
  });
}

}  // namespace
}  // namespace siftattention

TORCH_LIBRARY_FRAGMENT(siftattention, library) {
  library.def(
      "decode_workspace_size(int batch, int heads, int kv_heads, int head_dim, int keys, "
      "bool estimates=False) -> int",
      &siftattention::decode_workspace_size);
  library.def(
      "decode_attention_out(Tensor query, Tensor key_cache, Tensor value_cache, Tensor lengths, "
      "Tensor(a!) workspace, int batch_capacity, int key_capacity, Tensor(b!) out, *, "
      "bool estimates=False, Tensor? table=None, Tensor? table_begin=None, str layout='HND', "
      "float? scale=None, Tensor? modes=None, Tensor? thresholds=None, bool exact=True, "
      "bool gated=False, Tensor? value_means=None, str compensation='none', "
      "str empty='highest', int sink=0, int recent=0, "
      "Tensor? tiles=None, str code='bits4', int block=32, str order='as_stored', "
      "float margin=0.5, "
      "Tensor(c!)? head_states=None, Tensor(d!)? group_states=None, Tensor? generated=None, "
      "Tensor? slots=None, Tensor? taus=None, Tensor? warmups=None, "
      "Tensor(e!)? ln_thetas=None, bool records=True, float tau=0.875, str fit='ridge', "
      "float adapt=0.0, str adapt_target='head', int warmup=128, int dense_rows=0, "
      "Tensor(f!)? log_sum_exp=None, Tensor(g!)? head_facts=None, "
      "Tensor(h!)? group_facts=None) -> ()");
}

TORCH_LIBRARY_IMPL(siftattention, CUDA, library) {
  library.impl("decode_attention_out", &siftattention::decode_attention_out);
}
