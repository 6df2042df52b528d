#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "sift/kernels/backend.h"

namespace sift {

/// The forward pass of the Llama family, written once over the kernel seam. It owns the weights
/// and the backend that multiplies with them.
class Transformer {
 public:
  /// Prepares every weight matrix. `released` is called with each matrix whose mapped source is no
  /// longer read.
  template <class Released>
  Transformer(ModelShape shape, ModelWeights weights, std::unique_ptr<Backend> backend,
              Released&& released)
      : shape_(std::move(shape)), weights_(std::move(weights)), backend_(std::move(backend)) {
    for_each_matrix([&](Weight& weight) {
      if (backend_->prepare(weight)) released(weight.source);
    });
  }

  /// Runs the batch through all layers and commits its rows to their sequences. The activations of
  /// its last layer stay until the next call. REQUIRES: sequences have reserved the rows.
  void forward(const Batch& batch);

  /// Logits of chosen rows of the batch that forward() took last: out [rows.size(), vocabulary].
  /// Throws Error (numerical) at a non-finite logit.
  void logits(const Batch& batch, std::span<const std::int64_t> rows, std::span<float> out);

  const ModelShape& shape() const { return shape_; }
  const Backend& backend() const { return *backend_; }
  /// hidden of the last batch [rows, embedding], before the final norm.
  const Activations& activations() const { return activations_; }
  /// Bytes of packed weights that this process holds beside the file.
  std::size_t packed_bytes() const;

 private:
  template <class Visit>
  void for_each_matrix(Visit&& visit) {
    visit(weights_.token_embedding);
    for (LayerWeights& layer : weights_.layers) {
      for (Weight* weight : {&layer.query, &layer.key, &layer.value, &layer.attention_output,
                             &layer.gate, &layer.up, &layer.down}) {
        visit(*weight);
      }
    }
    if (!weights_.tied_embeddings) visit(weights_.output);
  }

  ModelShape shape_;
  ModelWeights weights_;
  std::unique_ptr<Backend> backend_;
  Activations activations_;
};

}  // namespace sift
