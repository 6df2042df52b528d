#include <omp.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "sift/kernels/backend.h"
#include "sift/kernels/cpu/append.h"
#include "sift/kernels/cpu/attend_decode.h"
#include "sift/kernels/cpu/attend_rows.h"
#include "sift/kernels/cpu/elementwise.h"
#include "sift/kernels/cpu/linear.h"

namespace sift {
namespace {

/// Fewer rows than this are not worth waking threads for.
constexpr std::int64_t kParallelRows = 4;

class CpuBackend final : public Backend {
 public:
  CpuBackend(ModelShape shape, const BackendOptions& options)
      : shape_(std::move(shape)), options_(options), linear_workspace_(options.threads) {}

  std::string name() const override { return "cpu"; }
  std::string compute() const override {
    return cpu::describe(options_.compute, linear_workspace_.instruction_set());
  }

  void check_decode(const Policy& policy) const override { cpu::check_decode_policy(policy); }

  bool prepare(Weight& weight) override {
    omp_set_num_threads(options_.threads);
    weight.packed = cpu::pack(weight.source, options_.compute, linear_workspace_);
    return true;
  }

  void embed(const Weight& table, const Batch& batch, Activations& activations) override {
    omp_set_num_threads(options_.threads);
    for (std::int64_t row = 0; row < batch.rows(); ++row) {
      cpu::read_row(*table.packed, batch.tokens[static_cast<std::size_t>(row)],
                    activations.hidden.data() + row * shape_.embedding);
    }
    positions_.clear();
    for (const Segment& segment : batch.segments) {
      for (std::int64_t index = 0; index < segment.row_count; ++index) {
        positions_.push_back(segment.sequence->length() + index);
      }
    }
    rotations_.prepare(shape_.rope, positions_);
  }

  void norm_project_rope_append(const LayerWeights& weights, int layer, const Batch& batch,
                                Activations& activations) override {
    const std::int64_t rows = batch.rows();
    norm(weights.attention_norm, activations.hidden.data(), rows);
    key_.ensure(static_cast<std::size_t>(rows * key_width()));
    value_.ensure(static_cast<std::size_t>(rows * key_width()));
    multiply({{weights.query.packed.get(), activations.query.data()},
              {weights.key.packed.get(), key_.data()},
              {weights.value.packed.get(), value_.data()}},
             normed_.data(), batch, /*add=*/false);
#pragma omp parallel for schedule(static) if (rows >= kParallelRows)
    for (std::int64_t row = 0; row < rows; ++row) {
      rotations_.rotate(row, shape_.heads, shape_.head_dim,
                        activations.query.data() + row * query_width());
      rotations_.rotate(row, shape_.kv_heads, shape_.head_dim, key_.data() + row * key_width());
    }
    for (const Segment& segment : batch.segments) {
      const std::int64_t offset = segment.row_begin * key_width();
      const CacheView cache = segment.sequence->view(layer);
      cpu::append_rows(cache, segment.sequence->attention(), layer, segment.sequence->rows(),
                       segment.row_count, key_.data() + offset, value_.data() + offset);
    }
  }

  void attend(int layer, const Batch& batch, Activations& activations) override {
    omp_set_num_threads(options_.threads);
    for (const Segment& segment : batch.segments) {
      AttentionState& state = segment.sequence->attention();
      const CacheView cache = segment.sequence->view(layer);
      const float* query = activations.query.data() + segment.row_begin * query_width();
      float* output = activations.attended.data() + segment.row_begin * query_width();
      // Decode kernels never hold all scores of a row, which an observer wants.
      const bool steps = batch.decode && state.score_observer() == nullptr;
      if (steps && segment.row_count == 1) {
        cpu::attend_decode(state, layer, cache, segment.identity(0), query, output,
                           decode_workspace_);
      } else {
        cpu::attend_rows(state, layer, cache, segment, query, output, rows_workspace_);
      }
    }
  }

  void project_add(const Weight& weight, Activations& activations, const Batch& batch) override {
    multiply({{weight.packed.get(), activations.hidden.data()}}, activations.attended.data(), batch,
             /*add=*/true);
  }

  void norm_gated_feed_forward(const LayerWeights& weights, Activations& activations,
                               const Batch& batch) override {
    const std::int64_t rows = batch.rows();
    norm(weights.feed_forward_norm, activations.hidden.data(), rows);
    gate_.ensure(static_cast<std::size_t>(rows * shape_.feed_forward));
    up_.ensure(static_cast<std::size_t>(rows * shape_.feed_forward));
    multiply({{weights.gate.packed.get(), gate_.data()}, {weights.up.packed.get(), up_.data()}},
             normed_.data(), batch, /*add=*/false);
#pragma omp parallel for schedule(static) if (rows >= kParallelRows)
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t offset = row * shape_.feed_forward;
      cpu::silu_multiply(gate_.data() + offset, up_.data() + offset, shape_.feed_forward);
    }
    multiply({{weights.down.packed.get(), activations.hidden.data()}}, gate_.data(), batch,
             /*add=*/true);
  }

  void logits(const std::vector<float>& norm_weight, const Weight& output,
              const Activations& activations, const Batch& batch,
              std::span<const std::int64_t> rows, std::span<float> out) override {
    const auto count = static_cast<std::int64_t>(rows.size());
    normed_.ensure(static_cast<std::size_t>(count * shape_.embedding));
    for (std::int64_t i = 0; i < count; ++i) {
      cpu::rms_norm(
          activations.hidden.data() + rows[static_cast<std::size_t>(i)] * shape_.embedding,
          norm_weight.data(), shape_.norm_epsilon, shape_.embedding,
          normed_.data() + i * shape_.embedding);
    }
    const cpu::Product product{output.packed.get(), out.data()};
    // One row is not worth expanding the whole matrix for.
    if (batch.decode || count == 1) {
      cpu::multiply_decode({&product, 1}, normed_.data(), count, false, linear_workspace_);
    } else {
      cpu::multiply_prompt({&product, 1}, normed_.data(), count, false, linear_workspace_);
    }
  }

 private:
  std::int64_t query_width() const { return std::int64_t{shape_.heads} * shape_.head_dim; }
  std::int64_t key_width() const { return std::int64_t{shape_.kv_heads} * shape_.head_dim; }

  void norm(const std::vector<float>& weight, const float* hidden, std::int64_t rows) {
    normed_.ensure(static_cast<std::size_t>(rows * shape_.embedding));
#pragma omp parallel for schedule(static) if (rows >= kParallelRows)
    for (std::int64_t row = 0; row < rows; ++row) {
      cpu::rms_norm(hidden + row * shape_.embedding, weight.data(), shape_.norm_epsilon,
                    shape_.embedding, normed_.data() + row * shape_.embedding);
    }
  }

  void multiply(std::initializer_list<cpu::Product> products, const float* x, const Batch& batch,
                bool add) {
    const std::span<const cpu::Product> span(products.begin(), products.size());
    if (batch.decode) {
      cpu::multiply_decode(span, x, batch.rows(), add, linear_workspace_);
    } else {
      cpu::multiply_prompt(span, x, batch.rows(), add, linear_workspace_);
    }
  }

  ModelShape shape_;
  BackendOptions options_;
  std::vector<std::int64_t> positions_;  ///< [rows]
  cpu::RotationTable rotations_;
  AlignedBuffer<float> normed_;  ///< [rows, embedding]
  AlignedBuffer<float> key_;     ///< [rows, kv_heads · head_dim]
  AlignedBuffer<float> value_;   ///< [rows, kv_heads · head_dim]
  AlignedBuffer<float> gate_;    ///< [rows, feed_forward]
  AlignedBuffer<float> up_;      ///< [rows, feed_forward]
  cpu::Workspace linear_workspace_;
  cpu::DecodeWorkspace decode_workspace_;
  cpu::RowsWorkspace rows_workspace_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const ModelShape& shape, const BackendOptions& options) {
  return std::make_unique<CpuBackend>(shape, options);
}

}  // namespace sift
