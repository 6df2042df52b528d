#include "sift/model/model_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "sift/core/dequantise.h"

namespace sift {
namespace {

constexpr std::string_view kRopeFactors = "rope_freqs.weight";
constexpr std::size_t kTensorsPerBlock = 9;

/// Looks tensors up by name and remembers which have been used.
class Finder {
 public:
  Finder(const Gguf& gguf, const ModelConfig& config) : gguf_(gguf), config_(config) {}

  ModelWeights find() {
    check_count();
    ModelWeights weights;
    weights.token_embedding = matrix("token_embd.weight", config_.vocabulary_size, embedding());
    weights.output_norm = norm("output_norm.weight");
    weights.tied_embeddings = config_.tied_embeddings;
    if (!config_.tied_embeddings) {
      weights.output = matrix("output.weight", config_.vocabulary_size, embedding());
    }
    weights.layers.reserve(static_cast<std::size_t>(config_.block_count));
    for (int i = 0; i < config_.block_count; ++i) weights.layers.push_back(layer(i));
    used_.insert(kRopeFactors);
    refuse_unknown();
    return weights;
  }

 private:
  std::int64_t embedding() const { return config_.embedding_length; }

  /// So that a false block count costs no memory.
  void check_count() const {
    const auto blocks = static_cast<std::size_t>(config_.block_count);
    if (gguf_.tensors().size() / kTensorsPerBlock < blocks) {
      gguf_.fail(
          config_.architecture + ".block_count",
          fmt::format("is {}, but there are only {} tensors", blocks, gguf_.tensors().size()));
    }
  }

  LayerWeights layer(int index) {
    const std::int64_t query = std::int64_t{config_.head_count} * config_.head_dim;
    const std::int64_t key = std::int64_t{config_.head_count_kv} * config_.head_dim;
    const std::int64_t wide = config_.feed_forward_length;
    const auto name = [index](std::string_view role) {
      return fmt::format("blk.{}.{}.weight", index, role);
    };
    LayerWeights layer;
    layer.attention_norm = norm(name("attn_norm"));
    layer.query = matrix(name("attn_q"), query, embedding());
    layer.key = matrix(name("attn_k"), key, embedding());
    layer.value = matrix(name("attn_v"), key, embedding());
    layer.attention_output = matrix(name("attn_output"), embedding(), query);
    layer.feed_forward_norm = norm(name("ffn_norm"));
    layer.gate = matrix(name("ffn_gate"), wide, embedding());
    layer.up = matrix(name("ffn_up"), wide, embedding());
    layer.down = matrix(name("ffn_down"), embedding(), wide);
    return layer;
  }

  const GgufTensor& tensor(const std::string& name) {
    const GgufTensor* found = gguf_.find_tensor(name);
    if (found == nullptr) {
      gguf_.fail("tensor " + name, "is missing from the tensor directory");
    }
    used_.insert(found->name);
    return *found;
  }

  Weight matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
    const GgufTensor& found = tensor(name);
    if (found.dimensions != 2 || found.shape[0] != columns || found.shape[1] != rows) {
      gguf_.fail(found, fmt::format("has shape [{}], expected [{}, {}]",
                                    fmt::join(found.shape.begin(),
                                              found.shape.begin() + found.dimensions, ", "),
                                    columns, rows));
    }
    return {{found.type, rows, columns, gguf_.data(found).data()}, nullptr};
  }

  std::vector<float> norm(const std::string& name) {
    return read_vector(gguf_, tensor(name), embedding());
  }

  void refuse_unknown() const {
    for (const GgufTensor& found : gguf_.tensors()) {
      if (!used_.contains(found.name)) {
        gguf_.fail(found, fmt::format("is not known in the architecture {}", config_.architecture));
      }
    }
  }

 public:
  static std::vector<float> read_vector(const Gguf& gguf, const GgufTensor& found,
                                        std::int64_t length) {
    if (found.dimensions != 1 || found.shape[0] != length || found.type != DType::f32) {
      gguf.fail(found, fmt::format("is {} [{}], expected f32 [{}]", traits(found.type).name,
                                   fmt::join(found.shape.begin(),
                                             found.shape.begin() + found.dimensions, ", "),
                                   length));
    }
    std::vector<float> values(static_cast<std::size_t>(length));
    std::memcpy(values.data(), gguf.data(found).data(), found.bytes);
    return values;
  }

 private:
  const Gguf& gguf_;
  const ModelConfig& config_;
  std::set<std::string_view> used_;
};

std::vector<float> read_rope_factors(const Gguf& gguf, const ModelConfig& config) {
  const GgufTensor* found = gguf.find_tensor(kRopeFactors);
  if (found == nullptr) return {};
  std::vector<float> factors = Finder::read_vector(gguf, *found, config.rope_dimension_count / 2);
  for (const float factor : factors) {
    if (!std::isfinite(factor) || factor <= 0) {
      gguf.fail(*found, fmt::format("holds the factor {}, expected positive finite ones", factor));
    }
  }
  return factors;
}

/// Looks at a few thousand values at a time: whole blocks of every type.
void check_tensor_finite(const Gguf& gguf, const GgufTensor& tensor) {
  constexpr std::int64_t kChunk = 4096;
  const std::span<const std::byte> data = gguf.data(tensor);
  const DTypeTraits& format = traits(tensor.type);
  const std::int64_t count =
      static_cast<std::int64_t>(data.size()) / format.block_bytes * format.block_values;
  std::vector<float> values(kChunk);
  for (std::int64_t first = 0; first < count; first += kChunk) {
    const std::int64_t some = std::min(kChunk, count - first);
    dequantise(tensor.type, data.data() + row_bytes(tensor.type, first), some, values.data());
    for (std::int64_t i = 0; i < some; ++i) {
      const float value = values[static_cast<std::size_t>(i)];
      if (std::isfinite(value)) continue;
      gguf.fail(tensor,
                fmt::format("value {} (row {}, column {}) is {}, expected finite values", first + i,
                            (first + i) / tensor.shape[0], (first + i) % tensor.shape[0], value));
    }
  }
}

}  // namespace

ModelWeights find_weights(const Gguf& gguf, const ModelConfig& config) {
  return Finder(gguf, config).find();
}

ModelShape make_shape(const Gguf& gguf, const ModelConfig& config) {
  return {
      .layers = config.block_count,
      .embedding = config.embedding_length,
      .feed_forward = config.feed_forward_length,
      .heads = config.head_count,
      .kv_heads = config.head_count_kv,
      .head_dim = config.head_dim,
      .vocabulary = config.vocabulary_size,
      .norm_epsilon = config.rms_epsilon,
      .rope = {config.rope_style, inverse_frequencies(config, read_rope_factors(gguf, config))},
  };
}

void check_finite(const Gguf& gguf) {
  for (const GgufTensor& tensor : gguf.tensors()) check_tensor_finite(gguf, tensor);
}

}  // namespace sift
