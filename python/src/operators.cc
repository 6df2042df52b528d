// The PyTorch operators: tensors in, DecodeArguments out. What they compute is described in
// siftattention/attention.py; nothing here depends on the version of Python.

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>

#include "sift/core/error.h"
#include "sift/kernels/cuda/decode_attention.h"

namespace {

using at::Tensor;
using sift::cuda::CacheAddress;
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

/// `call()`, whose sift::Error becomes Python's ValueError.
template <class Call>
auto with_value_errors(Call&& call) {
  try {
    return call();
  } catch (const sift::Error& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

/// That `tensor` has this type and shape, lies on `device` and is contiguous.
void check_array(const Tensor& tensor, const char* name, at::Device device, at::ScalarType type,
                 at::IntArrayRef shape) {
  TORCH_CHECK_VALUE(tensor.device() == device, name, " is on ", tensor.device(), ", expected ",
                    device, ", where the query is");
  TORCH_CHECK_TYPE(tensor.scalar_type() == type, name, " has type ", tensor.scalar_type(),
                   ", expected ", type);
  TORCH_CHECK_VALUE(tensor.sizes() == shape, name, " has shape ", tensor.sizes(), ", expected ",
                    shape);
  TORCH_CHECK_VALUE(tensor.is_contiguous(), name, " is not contiguous");
}

/// The data of an optional array, or null.
template <class V>
V* optional_array(const std::optional<Tensor>& tensor, const char* name, at::Device device,
                  at::ScalarType type, at::IntArrayRef shape) {
  if (!tensor.has_value()) return nullptr;
  check_array(*tensor, name, device, type, shape);
  return static_cast<V*>(tensor->data_ptr());
}

sift::DType cache_type(const Tensor& query) {
  if (query.scalar_type() == at::kHalf) return sift::DType::f16;
  TORCH_CHECK_TYPE(query.scalar_type() == at::kBFloat16, "query has type ", query.scalar_type(),
                   ", expected float16 or bfloat16");
  return sift::DType::bf16;
}

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

/// Which dimension of a cache holds what.
struct CacheDimensions {
  int head;
  int slot;
};

CacheDimensions parse_layout(std::string_view layout) {
  if (layout == "HND") return {1, 2};
  TORCH_CHECK_VALUE(layout == "NHD", "layout is '", layout, "', expected 'HND' or 'NHD'");
  return {2, 1};
}

/// That keys and values are alike, and rows of head_dim values lie in one piece.
void check_cache(const Tensor& query, const Tensor& keys, const Tensor& values) {
  for (const auto& [cache, name] :
       {std::pair(&keys, "key_cache"), std::pair(&values, "value_cache")}) {
    TORCH_CHECK_VALUE(cache->device() == query.device(), name, " is on ", cache->device(),
                      ", expected ", query.device(), ", where the query is");
    TORCH_CHECK_TYPE(cache->scalar_type() == query.scalar_type(), name, " has type ",
                     cache->scalar_type(), ", expected ", query.scalar_type(),
                     ", which the query has");
    TORCH_CHECK_VALUE(cache->dim() == 4, name, " has ", cache->dim(), " dimensions, expected 4");
    TORCH_CHECK_VALUE(cache->size(3) == query.size(2), name, " has head dimension ", cache->size(3),
                      ", expected ", query.size(2), ", which the query has");
    TORCH_CHECK_VALUE(cache->stride(3) == 1, name, " has stride ", cache->stride(3),
                      " along the head dimension, expected 1");
    TORCH_CHECK_VALUE(reinterpret_cast<std::uintptr_t>(cache->data_ptr()) % 16 == 0, name,
                      " does not begin at a multiple of 16 bytes");
  }
  TORCH_CHECK_VALUE(keys.sizes() == values.sizes() && keys.strides() == values.strides(),
                    "key_cache has sizes ", keys.sizes(), " and strides ", keys.strides(),
                    ", value_cache ", values.sizes(), " and ", values.strides(),
                    ", expected the same");
}

int page_shift(std::int64_t page) {
  TORCH_CHECK_VALUE(page >= 16 && std::has_single_bit(static_cast<std::uint64_t>(page)),
                    "pages have ", page, " slots, expected a power of two of at least 16");
  return std::countr_zero(static_cast<std::uint64_t>(page));
}

/// Where rows lie: `table` is [batch, pages] or, with `table_begin` [batch + 1], [pages].
CacheAddress address(const Tensor& query, const Tensor& keys, const Tensor& values,
                     std::string_view layout, const std::optional<Tensor>& table,
                     const std::optional<Tensor>& table_begin) {
  check_cache(query, keys, values);
  const CacheDimensions dimensions = parse_layout(layout);
  const std::int64_t batch = query.size(0);
  CacheAddress cache;
  cache.keys = keys.data_ptr();
  cache.values = values.data_ptr();
  cache.page_stride = keys.stride(0) * keys.element_size();
  cache.head_stride = keys.stride(dimensions.head) * keys.element_size();
  cache.slot_stride = keys.stride(dimensions.slot) * keys.element_size();
  if (!table.has_value()) {
    TORCH_CHECK_VALUE(!table_begin.has_value(), "table_begin is given without a table");
    TORCH_CHECK_VALUE(keys.size(0) >= batch, "key_cache has ", keys.size(0),
                      " sequences, expected at least ", batch, ", one for each query");
    return cache;
  }
  cache.page_shift = page_shift(keys.size(dimensions.slot));
  const std::int64_t columns = table->dim() > 0 ? table->size(-1) : 0;
  if (table_begin.has_value()) {
    check_array(*table, "table", query.device(), at::kInt, {columns});
    check_array(*table_begin, "table_begin", query.device(), at::kInt, {batch + 1});
    cache.table_begin = table_begin->data_ptr<std::int32_t>();
  } else {
    check_array(*table, "table", query.device(), at::kInt, {batch, columns});
    cache.table_stride = columns;
  }
  cache.table = table->data_ptr<std::int32_t>();
  return cache;
}

/// Plans, each for one workspace; making one asks the device and clears the workspace's counters.
class Plans {
 public:
  std::shared_ptr<const DecodeAttention> get(const DecodeCapacity& capacity, sift::DType type,
                                             const Tensor& workspace, cudaStream_t stream) {
    const Key key{workspace.get_device(), workspace.data_ptr(), workspace.nbytes(),
                  capacity.batch,         capacity.heads,       capacity.kv_heads,
                  capacity.head_dim,      capacity.keys,        type};
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
  using Key =
      std::tuple<int, const void*, std::size_t, int, int, int, int, std::int64_t, sift::DType>;
  static constexpr std::size_t kMost = 256;
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const DecodeAttention>> plans_;
};

int whole(std::int64_t value, const char* name) {
  TORCH_CHECK_VALUE(value >= 0 && value <= std::numeric_limits<int>::max(), name, " is ", value,
                    ", expected 0 to ", std::numeric_limits<int>::max());
  return static_cast<int>(value);
}

DecodeCapacity capacity_of(std::int64_t batch, std::int64_t heads, std::int64_t kv_heads,
                           std::int64_t head_dim, std::int64_t keys) {
  return {whole(batch, "batch"), whole(heads, "heads"), whole(kv_heads, "kv_heads"),
          whole(head_dim, "head_dim"), keys};
}

std::int64_t decode_workspace_size(std::int64_t batch, std::int64_t heads, std::int64_t kv_heads,
                                   std::int64_t head_dim, std::int64_t keys) {
  return with_value_errors([&] {
    return static_cast<std::int64_t>(
        sift::cuda::decode_workspace_bytes(capacity_of(batch, heads, kv_heads, head_dim, keys)));
  });
}

void decode_attention_out(
    const Tensor& query, const Tensor& key_cache, const Tensor& value_cache, const Tensor& lengths,
    Tensor& workspace, std::int64_t batch_capacity, std::int64_t key_capacity, Tensor& out,
    const std::optional<Tensor>& table, const std::optional<Tensor>& table_begin,
    std::string_view layout, std::optional<double> scale, const std::optional<Tensor>& modes,
    const std::optional<Tensor>& thresholds, const std::optional<Tensor>& value_means,
    std::string_view compensation, std::string_view empty, std::int64_t sink, std::int64_t recent,
    const std::optional<Tensor>& log_sum_exp, const std::optional<Tensor>& head_facts,
    const std::optional<Tensor>& group_facts) {
  TORCH_CHECK_VALUE(query.dim() == 3, "query has ", query.dim(),
                    " dimensions, expected [batch, heads, head_dim]");
  const at::Device device = query.device();
  const std::int64_t batch = query.size(0);
  const std::int64_t heads = query.size(1);
  const std::int64_t head_dim = query.size(2);
  check_array(query, "query", device, query.scalar_type(), query.sizes());
  check_array(out, "out", device, query.scalar_type(), query.sizes());
  check_array(lengths, "lengths", device, at::kInt, {batch});
  check_array(workspace, "workspace", device, at::kByte, {workspace.numel()});

  const sift::DType type = cache_type(query);
  DecodeArguments a;
  a.cache = address(query, key_cache, value_cache, layout, table, table_begin);
  const std::int64_t kv_heads = key_cache.size(parse_layout(layout).head);
  a.batch = whole(batch, "the batch");
  a.heads = whole(heads, "the number of query heads");
  a.kv_heads = whole(kv_heads, "the number of KV heads");
  a.head_dim = whole(head_dim, "the head dimension");
  a.scale = static_cast<float>(scale.value_or(1 / std::sqrt(static_cast<double>(head_dim))));
  a.query = query.data_ptr();
  a.output = out.data_ptr();
  a.lengths = lengths.data_ptr<std::int32_t>();
  a.modes = reinterpret_cast<const RequestMode*>(
      optional_array<std::uint8_t>(modes, "modes", device, at::kByte, {batch}));
  a.thresholds =
      optional_array<float>(thresholds, "thresholds", device, at::kFloat, {batch, heads});
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

  TORCH_CHECK_VALUE(device.is_cuda(), "query is on ", device, ", expected a CUDA device");
  const c10::cuda::CUDAGuard guard(device);
  static Plans plans;
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device.index()).stream();
  with_value_errors([&] {
    const DecodeCapacity capacity =
        capacity_of(batch_capacity, heads, kv_heads, head_dim, key_capacity);
    plans.get(capacity, type, workspace, stream)->run(a, stream);
  });
}

}  // namespace

TORCH_LIBRARY(siftattention, library) {
  library.def(
      "decode_workspace_size(int batch, int heads, int kv_heads, int head_dim, int keys) -> int",
      &decode_workspace_size);
  library.def(
      "decode_attention_out(Tensor query, Tensor key_cache, Tensor value_cache, Tensor lengths, "
      "Tensor(a!) workspace, int batch_capacity, int key_capacity, Tensor(b!) out, *, "
      "Tensor? table=None, Tensor? table_begin=None, str layout='HND', float? scale=None, "
      "Tensor? modes=None, Tensor? thresholds=None, Tensor? value_means=None, "
      "str compensation='none', str empty='highest', int sink=0, int recent=0, "
      "Tensor(c!)? log_sum_exp=None, Tensor(d!)? head_facts=None, "
      "Tensor(e!)? group_facts=None) -> ()");
}

TORCH_LIBRARY_IMPL(siftattention, CUDA, library) {
  library.impl("decode_attention_out", &decode_attention_out);
}
