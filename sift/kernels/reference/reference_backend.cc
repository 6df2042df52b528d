#include <cmath>
#include <utility>
#include <vector>

#include "sift/cache/cache_rows.h"
#include "sift/core/dequantise.h"
#include "sift/kernels/backend.h"
#include "sift/kernels/reference/reference_attention.h"

namespace sift {
namespace {

using Matrix = std::vector<float>;  // [rows, columns]

/// Eight running sums, so that the additions need not wait for each other.
double dot(const float* a, const float* b, std::int64_t count) {
  double sums[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/// y [rows, outputs] = x [rows, inputs] · weightᵀ, each weight row expanded once.
Matrix multiply(const Weight& weight, const float* x, std::int64_t rows) {
  const std::int64_t inputs = weight.inputs();
  const std::int64_t outputs = weight.outputs();
  Matrix y(static_cast<std::size_t>(rows * outputs));
  std::vector<float> weight_row(static_cast<std::size_t>(inputs));
  for (std::int64_t output = 0; output < outputs; ++output) {
    dequantise(weight.source.type, weight.source.row(output), inputs, weight_row.data());
    for (std::int64_t row = 0; row < rows; ++row) {
      y[row * outputs + output] =
          static_cast<float>(dot(weight_row.data(), x + row * inputs, inputs));
    }
  }
  return y;
}

void rms_norm(const float* x, const std::vector<float>& weight, float epsilon, float* y) {
  const auto size = static_cast<std::int64_t>(weight.size());
  const double mean_square = dot(x, x, size) / static_cast<double>(size);
  const double scale = 1 / std::sqrt(mean_square + epsilon);
  for (std::int64_t i = 0; i < size; ++i) y[i] = static_cast<float>(x[i] * scale * weight[i]);
}

/// Turns the pairs of one head [head_dim] by position · frequency.
void rotate(const Rope& rope, std::int64_t position, float* head) {
  const std::size_t pairs = rope.inverse_frequencies.size();
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const double angle = static_cast<double>(position) * rope.inverse_frequencies[pair];
    const bool adjacent = rope.style == RopeStyle::adjacent_pairs;
    float& first = head[adjacent ? 2 * pair : pair];
    float& second = head[adjacent ? 2 * pair + 1 : pair + pairs];
    const double a = first;
    const double b = second;
    first = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
    second = static_cast<float>(a * std::sin(angle) + b * std::cos(angle));
  }
}

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(ModelShape shape) : shape_(std::move(shape)) {}

  std::string name() const override { return "reference"; }
  std::string compute() const override { return "f32, sums in double"; }
  void check_decode(const Policy&) const override {}  // it takes them all
  bool prepare(Weight&) override { return false; }

  void embed(const Weight& table, const Batch& batch, Activations& activations) override {
    for (std::int64_t row = 0; row < batch.rows(); ++row) {
      dequantise(table.source.type, table.source.row(batch.tokens[row]), shape_.embedding,
                 activations.hidden.data() + row * shape_.embedding);
    }
  }

  void norm_project_rope_append(const LayerWeights& weights, int layer, const Batch& batch,
                                Activations& activations) override {
    const Matrix x = norm(weights.attention_norm, batch, activations);
    Matrix query = multiply(weights.query, x.data(), batch.rows());
    Matrix key = multiply(weights.key, x.data(), batch.rows());
    const Matrix value = multiply(weights.value, x.data(), batch.rows());
    for (const Segment& segment : batch.segments) {
      for (std::int64_t index = 0; index < segment.row_count; ++index) {
        const std::int64_t row = segment.row_begin + index;
        const std::int64_t position = segment.sequence->length() + index;
        rotate_heads(position, shape_.heads, query.data() + row * query_width());
        rotate_heads(position, shape_.kv_heads, key.data() + row * key_width());
        append(*segment.sequence, layer, segment.sequence->rows() + index,
               key.data() + row * key_width(), value.data() + row * key_width());
      }
    }
    std::copy(query.begin(), query.end(), activations.query.data());
  }

  void attend(int layer, const Batch& batch, Activations& activations) override {
    const auto width = static_cast<std::size_t>(query_width());
    for (const Segment& segment : batch.segments) {
      AttentionState& state = segment.sequence->attention();
      const CacheView cache = segment.sequence->view(layer);
      const auto first = static_cast<std::size_t>(segment.row_begin) * width;
      const std::size_t size = static_cast<std::size_t>(segment.row_count) * width;
      const std::span<const float> query(activations.query.data() + first, size);
      const std::span<float> output(activations.attended.data() + first, size);
      if (evicts(state.policy())) {
        reference::attend_retained_rows(state, layer, cache, segment, query, output);
        continue;
      }
      for (std::int64_t index = 0; index < segment.row_count; ++index) {
        const std::size_t offset = static_cast<std::size_t>(index) * width;
        reference::attend_row(state, layer, cache, segment.identity(index),
                              query.subspan(offset, width), output.subspan(offset, width));
      }
    }
  }

  void project_add(const Weight& weight, Activations& activations, const Batch& batch) override {
    add_to_hidden(multiply(weight, activations.attended.data(), batch.rows()), activations);
  }

  void norm_gated_feed_forward(const LayerWeights& weights, Activations& activations,
                               const Batch& batch) override {
    const Matrix x = norm(weights.feed_forward_norm, batch, activations);
    Matrix gate = multiply(weights.gate, x.data(), batch.rows());
    const Matrix up = multiply(weights.up, x.data(), batch.rows());
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double value = gate[i];
      gate[i] = static_cast<float>(value / (1 + std::exp(-value)) * up[i]);
    }
    add_to_hidden(multiply(weights.down, gate.data(), batch.rows()), activations);
  }

  void logits(const std::vector<float>& norm_weight, const Weight& output,
              const Activations& activations, const Batch&, std::span<const std::int64_t> rows,
              std::span<float> out) override {
    Matrix x(rows.size() * shape_.embedding);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rms_norm(activations.hidden.data() + rows[i] * shape_.embedding, norm_weight,
               shape_.norm_epsilon, x.data() + i * shape_.embedding);
    }
    const Matrix y = multiply(output, x.data(), static_cast<std::int64_t>(rows.size()));
    std::copy(y.begin(), y.end(), out.begin());
  }

 private:
  std::int64_t query_width() const { return std::int64_t{shape_.heads} * shape_.head_dim; }
  std::int64_t key_width() const { return std::int64_t{shape_.kv_heads} * shape_.head_dim; }

  Matrix norm(const std::vector<float>& weight, const Batch& batch,
              const Activations& activations) const {
    Matrix x(static_cast<std::size_t>(batch.rows() * shape_.embedding));
    for (std::int64_t row = 0; row < batch.rows(); ++row) {
      const std::int64_t offset = row * shape_.embedding;
      rms_norm(activations.hidden.data() + offset, weight, shape_.norm_epsilon, x.data() + offset);
    }
    return x;
  }

  void rotate_heads(std::int64_t position, int heads, float* row) const {
    for (int head = 0; head < heads; ++head) {
      rotate(shape_.rope, position, row + head * shape_.head_dim);
    }
  }

  void append(Sequence& sequence, int layer, std::int64_t slot, const float* key,
              const float* value) const {
    const CacheView cache = sequence.view(layer);
    for (int head = 0; head < shape_.kv_heads; ++head) {
      const std::int64_t offset = head * shape_.head_dim;
      write_cache_row(cache.layout.type, key + offset, shape_.head_dim, cache.key_row(head, slot));
      write_sidecars(sequence.attention().policy(), cache, head, slot);
      write_cache_row(cache.layout.type, value + offset, shape_.head_dim,
                      cache.value_row(head, slot));
    }
  }

  static void add_to_hidden(const Matrix& delta, Activations& activations) {
    for (std::size_t i = 0; i < delta.size(); ++i) activations.hidden[i] += delta[i];
  }

  ModelShape shape_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(const ModelShape& shape) {
  return std::make_unique<ReferenceBackend>(shape);
}

}  // namespace sift
