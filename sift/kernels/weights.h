#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "sift/core/tensor.h"

namespace sift {

/// What a backend made of a weight matrix for its own use.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  virtual std::size_t bytes() const = 0;
};

/// A weight matrix [outputs, inputs] as the file has it, and, once a backend has prepared it, its
/// packed form. A backend that packs reads `source` no more, so its pages can be released.
struct Weight {
  MatrixView source;
  std::shared_ptr<PackedWeight> packed;

  std::int64_t outputs() const { return source.rows; }
  std::int64_t inputs() const { return source.columns; }
};

struct LayerWeights {
  std::vector<float> attention_norm;     ///< [embedding]
  Weight query;                          ///< [heads · head_dim, embedding]
  Weight key;                            ///< [kv_heads · head_dim, embedding]
  Weight value;                          ///< [kv_heads · head_dim, embedding]
  Weight attention_output;               ///< [embedding, heads · head_dim]
  std::vector<float> feed_forward_norm;  ///< [embedding]
  Weight gate;                           ///< [feed_forward, embedding]
  Weight up;                             ///< [feed_forward, embedding]
  Weight down;                           ///< [embedding, feed_forward]
};

struct ModelWeights {
  Weight token_embedding;  ///< [vocabulary, embedding]
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;  ///< [embedding]
  Weight output;                   ///< [vocabulary, embedding]; unused when embeddings are tied
  bool tied_embeddings = false;

  const Weight& output_weight() const { return tied_embeddings ? token_embedding : output; }
};

}  // namespace sift
