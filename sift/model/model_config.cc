#include "sift/model/model_config.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace sift {
namespace {

constexpr int kMaxHeadDim = 256;
constexpr int kHeadDimStep = 16;
constexpr std::int64_t kMaxContext = std::int64_t{1} << 30;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 24;
constexpr std::int64_t kMaxBlocks = 4096;
constexpr std::int64_t kMaxHeads = 4096;
constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 26;

/// Reads the keys that start with the architecture's name.
class Reader {
 public:
  Reader(const Gguf& gguf, std::string prefix) : gguf_(gguf), prefix_(std::move(prefix)) {}

  std::string key(std::string_view name) const { return prefix_ + "." + std::string(name); }
  bool has(std::string_view name) const { return gguf_.find(key(name)) != nullptr; }

  int size(std::string_view name, std::int64_t highest) const {
    const std::string full = key(name);
    const auto value = gguf_.require<std::int64_t>(full);
    if (value < 1 || value > highest) {
      fail(name, fmt::format("is {}, expected 1 to {}", value, highest));
    }
    return static_cast<int>(value);
  }
  int size_or(std::string_view name, std::int64_t highest, int absent) const {
    return has(name) ? size(name, highest) : absent;
  }

  double positive(std::string_view name) const {
    const auto value = gguf_.require<double>(key(name));
    if (!std::isfinite(value) || value <= 0) {
      fail(name, fmt::format("is {}, expected a positive finite number", value));
    }
    return value;
  }
  double positive_or(std::string_view name, double absent) const {
    return has(name) ? positive(name) : absent;
  }

  [[noreturn]] void fail(std::string_view name, const std::string& what) const {
    gguf_.fail(key(name), what);
  }
  const Gguf& gguf() const { return gguf_; }

 private:
  const Gguf& gguf_;
  std::string prefix_;
};

std::string read_architecture(const Gguf& gguf) {
  constexpr std::string_view kKey = "general.architecture";
  const auto architecture = gguf.require<std::string_view>(kKey);
  if (architecture != "llama") {
    gguf.fail(kKey, fmt::format("the architecture {} is not supported, expected llama",
                                printable(architecture)));
  }
  return std::string(architecture);
}

/// Refuses what other models of this architecture compute beyond what is built here.
void refuse_unsupported(const Reader& reader) {
  constexpr std::array kUnsupported = {
      "attention.scale",
      "attention.sliding_window",
      "attention.clamp_kqv",
      "attention.max_alibi_bias",
      "attention.logit_softcapping",
      "logit_scale",
      "embedding_scale",
      "residual_scale",
      "final_logit_softcapping",
      "attention.layer_norm_epsilon",
  };
  for (const std::string_view name : kUnsupported) {
    if (reader.has(name)) reader.fail(name, "asks for a computation that is not supported");
  }
  const auto experts = reader.gguf().get<std::int64_t>(reader.key("expert_count"));
  if (experts.value_or(0) != 0) {
    reader.fail("expert_count", fmt::format("is {}, but experts are not supported", *experts));
  }
  if (!reader.gguf().get<bool>(reader.key("attention.causal")).value_or(true)) {
    reader.fail("attention.causal", "is false, but only causal attention is supported");
  }
}

void read_heads(const Reader& reader, ModelConfig& config) {
  config.head_count = reader.size("attention.head_count", kMaxHeads);
  config.head_count_kv = reader.size_or("attention.head_count_kv", kMaxHeads, config.head_count);
  if (config.head_count % config.head_count_kv != 0) {
    reader.fail("attention.head_count_kv",
                fmt::format("{} query heads are no multiple of {} key and value heads",
                            config.head_count, config.head_count_kv));
  }
  if (!reader.has("attention.key_length") && config.embedding_length % config.head_count != 0) {
    reader.fail("attention.head_count",
                fmt::format("{} heads do not divide the embedding length {}, and there is no "
                            "attention.key_length",
                            config.head_count, config.embedding_length));
  }
  config.head_dim = reader.size_or("attention.key_length", kMaxWidth,
                                   config.embedding_length / config.head_count);
  if (reader.size_or("attention.value_length", kMaxWidth, config.head_dim) != config.head_dim) {
    reader.fail("attention.value_length",
                fmt::format("differs from the key length {}", config.head_dim));
  }
  if (config.head_dim % kHeadDimStep != 0 || config.head_dim > kMaxHeadDim ||
      config.head_dim == 0) {
    reader.fail(
        reader.has("attention.key_length") ? "attention.key_length" : "attention.head_count",
        fmt::format("a head dimension of {}, expected a multiple of {} up to {}", config.head_dim,
                    kHeadDimStep, kMaxHeadDim));
  }
}

void read_rope(const Reader& reader, ModelConfig& config) {
  config.rope_style = RopeStyle::adjacent_pairs;
  config.rope_dimension_count =
      reader.size_or("rope.dimension_count", kMaxHeadDim, config.head_dim);
  if (config.rope_dimension_count % 2 != 0 || config.rope_dimension_count > config.head_dim) {
    reader.fail("rope.dimension_count",
                fmt::format("is {}, expected an even number up to the head dimension {}",
                            config.rope_dimension_count, config.head_dim));
  }
  config.rope_frequency_base = reader.positive_or("rope.freq_base", 10000.0);
  const auto type =
      reader.gguf().get<std::string_view>(reader.key("rope.scaling.type")).value_or("none");
  if (type == "linear") {
    config.rope_linear_factor = reader.positive("rope.scaling.factor");
  } else if (type != "none") {
    reader.fail(
        "rope.scaling.type",
        fmt::format("the scaling {} is not supported, expected none or linear", printable(type)));
  } else {
    config.rope_linear_factor = reader.positive_or("rope.scale_linear", 1.0);
  }
}

/// The token embedding decides; what else speaks of the vocabulary must agree.
void read_vocabulary(const Reader& reader, ModelConfig& config) {
  const GgufTensor* embedding = reader.gguf().find_tensor("token_embd.weight");
  if (embedding == nullptr) {
    reader.gguf().fail("tensor token_embd.weight", "is missing from the tensor directory");
  }
  const std::int64_t rows = embedding->shape[1];
  if (rows > kMaxVocabulary) {
    reader.gguf().fail(*embedding,
                       fmt::format("{} rows, expected at most {}", rows, kMaxVocabulary));
  }
  config.vocabulary_size = static_cast<int>(rows);
  if (reader.size_or("vocab_size", kMaxVocabulary, config.vocabulary_size) != rows) {
    reader.fail("vocab_size", fmt::format("differs from the {} rows of token_embd.weight", rows));
  }
  constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
  const auto tokens = reader.gguf().get<GgufArray>(kTokens);
  if (tokens && tokens->count != static_cast<std::uint64_t>(rows)) {
    reader.gguf().fail(
        kTokens, fmt::format("{} tokens, but token_embd.weight has {} rows", tokens->count, rows));
  }
}

}  // namespace

ModelConfig read_model_config(const Gguf& gguf) {
  ModelConfig config;
  config.architecture = read_architecture(gguf);
  const Reader reader(gguf, config.architecture);
  refuse_unsupported(reader);
  config.context_length = reader.size("context_length", kMaxContext);
  config.embedding_length = reader.size("embedding_length", kMaxWidth);
  config.block_count = reader.size("block_count", kMaxBlocks);
  config.feed_forward_length = reader.size("feed_forward_length", kMaxWidth);
  read_heads(reader, config);
  read_rope(reader, config);
  config.rms_epsilon = static_cast<float>(reader.positive("attention.layer_norm_rms_epsilon"));
  read_vocabulary(reader, config);
  config.tied_embeddings = gguf.find_tensor("output.weight") == nullptr;
  return config;
}

std::vector<float> inverse_frequencies(const ModelConfig& config, std::span<const float> factors) {
  std::vector<float> result(static_cast<std::size_t>(config.rope_dimension_count / 2));
  for (std::size_t i = 0; i < result.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / config.rope_dimension_count;
    const double factor = factors.empty() ? 1.0 : static_cast<double>(factors[i]);
    result[i] = static_cast<float>(std::pow(config.rope_frequency_base, exponent) /
                                   config.rope_linear_factor / factor);
  }
  return result;
}

}  // namespace sift
