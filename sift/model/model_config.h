#pragma once

#include <span>
#include <string>

#include "sift/kernels/backend.h"
#include "sift/model/gguf.h"

namespace sift {

/// What a model file says about the model's sizes and constants.
struct ModelConfig {
  std::string architecture;  ///< "llama"
  int vocabulary_size = 0;   ///< rows of the token embedding
  int context_length = 0;    ///< positions that the model was trained for
  int embedding_length = 0;
  int block_count = 0;
  int feed_forward_length = 0;
  int head_count = 0;     ///< query heads
  int head_count_kv = 0;  ///< key and value heads; divides head_count
  int head_dim = 0;       ///< a multiple of 16, at most 256
  /// The first so many dimensions of a head turn; even, at most head_dim.
  int rope_dimension_count = 0;
  RopeStyle rope_style = RopeStyle::adjacent_pairs;
  double rope_frequency_base = 0;
  double rope_linear_factor = 1;  ///< positions are divided by it
  float rms_epsilon = 0;
  bool tied_embeddings = false;  ///< the output matrix is the token embedding
};

/// Reads and checks the configuration. Throws Error{bad_file} that names file, key and offset: for
/// values out of range, an unknown architecture, and everything that would change the computation
/// and is not supported (YaRN scaling, experts, …).
ModelConfig read_model_config(const Gguf& gguf);

/// Angle per position of each pair of turning dimensions: base^(−2i/n) / linear factor /
/// factors[i]. `factors` is empty or holds n/2 divisors (the tensor rope_freqs.weight of Llama 3
/// files).
std::vector<float> inverse_frequencies(const ModelConfig& config, std::span<const float> factors);

}  // namespace sift
