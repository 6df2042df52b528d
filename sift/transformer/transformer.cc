#include "sift/transformer/transformer.h"

#include <fmt/format.h>

#include <cmath>

#include "sift/core/error.h"

namespace sift {

void Transformer::forward(const Batch& batch) {
  activations_.ensure(shape_, batch.rows());
  backend_->embed(weights_.token_embedding, batch, activations_);
  for (int layer = 0; layer < shape_.layers; ++layer) {
    const LayerWeights& weights = weights_.layers[static_cast<std::size_t>(layer)];
    backend_->norm_project_rope_append(weights, layer, batch, activations_);
    backend_->attend(layer, batch, activations_);
    backend_->project_add(weights.attention_output, activations_, batch);
    backend_->norm_gated_feed_forward(weights, activations_, batch);
  }
  for (const Segment& segment : batch.segments) {
    segment.sequence->commit(segment.row_count, segment.row_count - segment.prompt_rows);
  }
}

void Transformer::logits(const Batch& batch, std::span<const std::int64_t> rows,
                         std::span<float> out) {
  backend_->logits(weights_.output_norm, weights_.output_weight(), activations_, batch, rows, out);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) {
      throw Error(ErrorKind::numerical,
                  fmt::format("logit {} of token {} at batch row {}: expected a finite number (are "
                              "the weights finite? `sift inspect --check` tells)",
                              out[i], i % static_cast<std::size_t>(shape_.vocabulary),
                              rows[i / static_cast<std::size_t>(shape_.vocabulary)]));
    }
  }
}

std::size_t Transformer::packed_bytes() const {
  std::size_t bytes = 0;
  const auto add = [&](const Weight& weight) {
    bytes += weight.packed ? weight.packed->bytes() : 0;
  };
  add(weights_.token_embedding);
  add(weights_.output);
  for (const LayerWeights& layer : weights_.layers) {
    for (const Weight* weight : {&layer.query, &layer.key, &layer.value, &layer.attention_output,
                                 &layer.gate, &layer.up, &layer.down}) {
      add(*weight);
    }
  }
  return bytes;
}

}  // namespace sift
