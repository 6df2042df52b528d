#include "sift/kernels/cuda/prefill_attention.h"

#include <cudnn_frontend.h>

#include <unordered_map>
#include <vector>

#include "sift/kernels/cuda/argument_checks.h"

namespace sift::cuda {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

constexpr ArgumentChecks kChecks("prefill attention");
constexpr std::int64_t kValueBytes = 2;  // f16 and bf16
constexpr int kContiguous = 31;          // page_shift of a cache without a table

// The tensors of the graph, by the numbers that cuDNN knows them by.
using Uid = std::int64_t;
constexpr Uid kQuery = 1;
constexpr Uid kKeys = 2;
constexpr Uid kValues = 3;
constexpr Uid kOutput = 4;
constexpr Uid kTokens = 5;
constexpr Uid kLengths = 6;
constexpr Uid kKeyTable = 7;
constexpr Uid kValueTable = 8;

void require_good(fe::error_t status, const char* what) {
  if (status.is_bad()) kChecks.refuse(what, ": ", status.get_message());
}

bool is_paged(const CacheAddress& cache) { return cache.page_shift < kContiguous; }

std::int64_t page_of(const PrefillAttentionShape& s) {
  return std::int64_t{1} << s.cache.page_shift;
}

std::int64_t table_columns(const PrefillAttentionShape& s) {
  return (s.keys + page_of(s) - 1) / page_of(s);
}

void check_cache(const PrefillAttentionShape& s) {
  const CacheAddress& cache = s.cache;
  for (const std::int64_t stride : {cache.page_stride, cache.slot_stride, cache.head_stride}) {
    kChecks.require(stride >= 0 && stride % 16 == 0, "a stride of the cache", stride,
                    "a multiple of 16");
  }
  if (!is_paged(cache)) return;
  kChecks.require(cache.page_shift >= 4, "log2 of the page size", cache.page_shift,
                  "4 to 30 (pages of at least 16 keys), or 31 without a table");
  kChecks.require(s.pages >= 1, "the number of pages", s.pages, "at least 1");
  kChecks.require(cache.table_stride >= table_columns(s), "the stride of the table",
                  cache.table_stride, "at least the pages of the longest prompt");
}

void check_shape(const PrefillAttentionShape& s, DType type) {
  if (type != DType::f16 && type != DType::bf16) {
    kChecks.refuse("the cache has a type that it does not serve, expected f16 or bf16");
  }
  kChecks.require(s.batch >= 1, "the batch", s.batch, "at least 1 prompt");
  kChecks.require(s.kv_heads >= 1, "the number of KV heads", s.kv_heads, "at least 1");
  kChecks.require(s.heads >= s.kv_heads && s.heads % s.kv_heads == 0, "the number of query heads",
                  s.heads, "a multiple of the KV heads");
  kChecks.require(s.head_dim == 64 || s.head_dim == 96 || s.head_dim == 128 || s.head_dim == 256,
                  "the head dimension", s.head_dim, "64, 96, 128 or 256");
  kChecks.require(s.tokens >= 1, "the length of a chunk", s.tokens, "at least 1 token");
  kChecks.require(s.keys >= s.tokens && s.keys < (std::int64_t{1} << 31), "the number of keys",
                  s.keys, "at least the tokens of a chunk, and less than 2^31");
  kChecks.require(s.scale > 0, "the scale", s.scale, "a positive number");
  check_cache(s);
}

Tensor add_tensor(fe::graph::Graph& graph, Uid uid, const char* name,
                  const std::vector<std::int64_t>& dimensions,
                  const std::vector<std::int64_t>& strides) {
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_uid(uid)
                          .set_name(name)
                          .set_dim(dimensions)
                          .set_stride(strides));
}

/// [batch] numbers of the device.
Tensor add_counts(fe::graph::Graph& graph, Uid uid, const char* name, std::int64_t batch) {
  Tensor counts = add_tensor(graph, uid, name, {batch, 1, 1, 1}, {1, 1, 1, 1});
  counts->set_data_type(fe::DataType_t::INT32);
  return counts;
}

/// Keys or values: [batch, kv_heads, keys, head_dim], or pages [pages, kv_heads, page, head_dim].
Tensor add_rows(fe::graph::Graph& graph, const PrefillAttentionShape& s, Uid uid,
                const char* name) {
  const bool paged = is_paged(s.cache);
  return add_tensor(
      graph, uid, name,
      {paged ? s.pages : s.batch, s.kv_heads, paged ? page_of(s) : s.keys, s.head_dim},
      {s.cache.page_stride / kValueBytes, s.cache.head_stride / kValueBytes,
       s.cache.slot_stride / kValueBytes, 1});
}

Tensor add_table(fe::graph::Graph& graph, const PrefillAttentionShape& s, Uid uid,
                 const char* name) {
  const std::int64_t stride = s.cache.table_stride;
  Tensor table =
      add_tensor(graph, uid, name, {s.batch, 1, table_columns(s), 1}, {stride, stride, 1, 1});
  table->set_data_type(fe::DataType_t::INT32);
  return table;
}

fe::graph::SDPA_attributes attributes(fe::graph::Graph& graph, const PrefillAttentionShape& s) {
  fe::graph::SDPA_attributes attention;
  attention.set_name("prefill attention")
      .set_generate_stats(false)
      .set_attn_scale(s.scale)
      .set_padding_mask(true)
      .set_seq_len_q(add_counts(graph, kTokens, "tokens", s.batch))
      .set_seq_len_kv(add_counts(graph, kLengths, "lengths", s.batch));
  if (s.tokens > 1) {  // a single row sees all keys; cuDNN has no mask for it
    attention.set_diagonal_alignment(fe::DiagonalAlignment_t::BOTTOM_RIGHT)
        .set_diagonal_band_right_bound(0);
  }
  if (is_paged(s.cache)) {
    attention.set_paged_attention_k_table(add_table(graph, s, kKeyTable, "key pages"))
        .set_paged_attention_v_table(add_table(graph, s, kValueTable, "value pages"))
        .set_paged_attention_max_seq_len_kv(static_cast<int>(s.keys));
  }
  return attention;
}

void describe(fe::graph::Graph& graph, const PrefillAttentionShape& s, DType type) {
  graph.set_io_data_type(type == DType::f16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  // [batch, heads, tokens, head_dim], as the rows of a chunk lie: heads within tokens.
  const std::int64_t row = std::int64_t{s.heads} * s.head_dim;
  const std::vector<std::int64_t> dimensions = {s.batch, s.heads, s.tokens, s.head_dim};
  const std::vector<std::int64_t> strides = {s.tokens * row, s.head_dim, row, 1};
  const Tensor query = add_tensor(graph, kQuery, "query", dimensions, strides);
  const Tensor keys = add_rows(graph, s, kKeys, "keys");
  const Tensor values = add_rows(graph, s, kValues, "values");
  const Tensor output = graph.sdpa(query, keys, values, attributes(graph, s))[0];
  output->set_output(true).set_uid(kOutput).set_dim(dimensions).set_stride(strides);
}

bool same_layout(const CacheAddress& a, const CacheAddress& b) {
  return a.page_stride == b.page_stride && a.slot_stride == b.slot_stride &&
         a.head_stride == b.head_stride && a.page_shift == b.page_shift &&
         a.table_stride == b.table_stride;
}

}  // namespace

struct PrefillAttention::Plan {
  explicit Plan(const PrefillAttentionShape& its_shape) : shape(its_shape) {
    const cudnnStatus_t status = cudnnCreate(&handle);
    if (status != CUDNN_STATUS_SUCCESS) {
      kChecks.refuse("cuDNN does not start: ", cudnnGetErrorString(status));
    }
  }
  ~Plan() { cudnnDestroy(handle); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  PrefillAttentionShape shape;
  cudnnHandle_t handle = nullptr;
  fe::graph::Graph graph;
  std::size_t workspace_bytes = 0;
};

PrefillAttention::PrefillAttention(const PrefillAttentionShape& shape, DType type) {
  check_shape(shape, type);
  plan_ = std::make_unique<Plan>(shape);
  describe(plan_->graph, shape, type);
  require_good(plan_->graph.build(plan_->handle, {fe::HeurMode_t::A}), "cuDNN refuses this shape");
  std::int64_t bytes = 0;
  require_good(plan_->graph.get_workspace_size(bytes), "cuDNN does not tell its workspace");
  plan_->workspace_bytes = static_cast<std::size_t>(bytes);
}

PrefillAttention::~PrefillAttention() = default;
PrefillAttention::PrefillAttention(PrefillAttention&&) noexcept = default;
PrefillAttention& PrefillAttention::operator=(PrefillAttention&&) noexcept = default;

std::size_t PrefillAttention::workspace_bytes() const { return plan_->workspace_bytes; }

void PrefillAttention::run(const PrefillAttentionArguments& arguments, void* workspace,
                           std::size_t bytes, cudaStream_t stream) const {
  const CacheAddress& cache = arguments.cache;
  kChecks.aligned(arguments.query, "the query");
  kChecks.aligned(arguments.output, "the output");
  kChecks.aligned(cache.keys, "the key cache");
  kChecks.aligned(cache.values, "the value cache");
  kChecks.present(arguments.tokens, "the array of tokens");
  kChecks.present(arguments.lengths, "the array of lengths");
  if (!same_layout(cache, plan_->shape.cache)) {
    kChecks.refuse("the cache has another layout than the shape that the plan was made for");
  }
  kChecks.require(cache.table_begin == nullptr, "table_begin", cache.table_begin,
                  "null (a table with a row for each request)");
  kChecks.workspace(bytes, plan_->workspace_bytes);
  // cuDNN takes no pointers to constants; it writes the output alone.
  const auto device = [](const void* pointer) { return const_cast<void*>(pointer); };
  std::unordered_map<Uid, void*> tensors = {
      {kQuery, device(arguments.query)},   {kOutput, arguments.output},
      {kKeys, device(cache.keys)},         {kValues, device(cache.values)},
      {kTokens, device(arguments.tokens)}, {kLengths, device(arguments.lengths)}};
  if (is_paged(cache)) {
    kChecks.present(cache.table, "the table of pages");
    tensors[kKeyTable] = tensors[kValueTable] = device(cache.table);
  }
  const cudnnStatus_t status = cudnnSetStream(plan_->handle, stream);
  if (status != CUDNN_STATUS_SUCCESS) {
    kChecks.refuse("cuDNN does not take the stream: ", cudnnGetErrorString(status));
  }
  require_good(plan_->graph.execute(plan_->handle, tensors, workspace),
               "launching prefill attention");
}

}  // namespace sift::cuda
