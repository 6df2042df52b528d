#pragma once

#include <cstdint>
#include <string>

#include "sift/core/dtype.h"
#include "sift/model/gguf_writer.h"

namespace sift {

/// A small model of random weights, for tests. Every width must be a multiple of the weight type's
/// block.
struct RandomModelOptions {
  int layers = 2;
  int embedding = 64;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 0;  ///< 0: embedding / heads
  int feed_forward = 128;
  int context = 512;
  float rope_base = 10000.0F;
  bool tied_embeddings = true;
  DType weight_type = DType::f32;
  std::uint64_t seed = 1;
};

/// A llama with lively but finite logits and a byte-level vocabulary: <|endoftext|>, <|im_start|>
/// (bos), <|im_end|> (eos), the 256 bytes in order (token id 3 + byte), and a few merges. The same
/// options give the same bytes.
GgufWriter random_llama(const RandomModelOptions& options);

/// random_llama() written to `path`. Throws Error{input_output}.
void write_random_llama(const std::string& path, const RandomModelOptions& options);

}  // namespace sift
