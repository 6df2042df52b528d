#include "sift/model/random_model.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "sift/core/quantise.h"

namespace sift {
namespace {

constexpr std::int32_t kNormalToken = 1;
constexpr std::int32_t kControlToken = 3;
constexpr std::array kSpecialTokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
// Ġ stands for a space.
constexpr std::array kMerges = {"Ġ t",  "h e", "Ġt he", "i n", "a n", "Ġ a", "e r", "o n",  "r e",
                                "an d", "Ġ s", "i s",   "Ġ o", "o u", "Ġ w", "Ġ Ġ", "in g", "e n"};
constexpr std::string_view kChatTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

/// Independent values of mean 0 and variance 1, the same on every platform: each is the sum of the
/// four 16-bit parts of one draw.
class Noise {
 public:
  explicit Noise(std::uint64_t seed) : generator_(seed) {}

  float next() {
    constexpr double kMean = 2.0 * 65535;
    constexpr double kDeviation = 65536 / 1.7320508075688772;  // of a sum of four: √(4/12)
    const std::uint64_t draw = generator_();
    const std::uint64_t sum =
        (draw & 0xffff) + (draw >> 16 & 0xffff) + (draw >> 32 & 0xffff) + (draw >> 48);
    return static_cast<float>((static_cast<double>(sum) - kMean) / kDeviation);
  }

 private:
  std::mt19937_64 generator_;
};

/// UTF-8 of the printable character that byte-level BPE writes for a byte.
std::string byte_token(int byte, int& next_substitute) {
  const bool printable_byte =
      (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const int character = printable_byte ? byte : next_substitute++;
  if (character < 128) return {static_cast<char>(character)};
  return {static_cast<char>(0xc0 | character >> 6), static_cast<char>(0x80 | (character & 63))};
}

void add_vocabulary(GgufWriter& writer) {
  std::vector<std::string> tokens(kSpecialTokens.begin(), kSpecialTokens.end());
  std::vector<std::int32_t> types(tokens.size(), kControlToken);
  int next_substitute = 256;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(byte_token(byte, next_substitute));
  const std::vector<std::string> merges(kMerges.begin(), kMerges.end());
  for (const std::string& merge : merges) {
    const std::size_t space = merge.find(' ');
    tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  types.resize(tokens.size(), kNormalToken);
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", "smollm");
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_i32s("tokenizer.ggml.token_type", types);
  writer.add_strings("tokenizer.ggml.merges", merges);
  writer.add_u32("tokenizer.ggml.bos_token_id", 1);
  writer.add_u32("tokenizer.ggml.eos_token_id", 2);
  writer.add_u32("tokenizer.ggml.unknown_token_id", 0);
  writer.add_u32("tokenizer.ggml.padding_token_id", 2);
  writer.add_bool("tokenizer.ggml.add_bos_token", false);
  writer.add_bool("tokenizer.ggml.add_space_prefix", false);
  writer.add_string("tokenizer.chat_template", kChatTemplate);
}

constexpr int kVocabulary = static_cast<int>(kSpecialTokens.size() + 256 + kMerges.size());

int head_dim(const RandomModelOptions& options) {
  return options.head_dim != 0 ? options.head_dim : options.embedding / options.heads;
}

void add_configuration(GgufWriter& writer, const RandomModelOptions& options) {
  const auto add = [&](std::string_view key, int value) {
    writer.add_u32(fmt::format("llama.{}", key), static_cast<std::uint32_t>(value));
  };
  writer.add_string("general.architecture", "llama");
  writer.add_string("general.name", "random");
  add("block_count", options.layers);
  add("context_length", options.context);
  add("embedding_length", options.embedding);
  add("feed_forward_length", options.feed_forward);
  add("attention.head_count", options.heads);
  add("attention.head_count_kv", options.kv_heads);
  add("attention.key_length", head_dim(options));
  add("attention.value_length", head_dim(options));
  add("vocab_size", kVocabulary);
  add("rope.dimension_count", head_dim(options));
  writer.add_f32("llama.rope.freq_base", options.rope_base);
  writer.add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
}

class TensorMaker {
 public:
  TensorMaker(GgufWriter& writer, const RandomModelOptions& options)
      : writer_(writer), options_(options), noise_(options.seed) {}

  void add_all() {
    const int query = options_.heads * head_dim(options_);
    const int key = options_.kv_heads * head_dim(options_);
    const int embedding = options_.embedding;
    const int wide = options_.feed_forward;
    add_matrix("token_embd", kVocabulary, embedding, 2.0F);
    for (int i = 0; i < options_.layers; ++i) {
      const auto name = [i](std::string_view role) { return fmt::format("blk.{}.{}", i, role); };
      add_norm(name("attn_norm"));
      add_matrix(name("attn_q"), query, embedding, 1.5F);
      add_matrix(name("attn_k"), key, embedding, 1.5F);
      add_matrix(name("attn_v"), key, embedding, 1.0F);
      add_matrix(name("attn_output"), embedding, query, 1.5F);
      add_norm(name("ffn_norm"));
      add_matrix(name("ffn_gate"), wide, embedding, 1.0F);
      add_matrix(name("ffn_up"), wide, embedding, 1.0F);
      add_matrix(name("ffn_down"), embedding, wide, 1.5F);
    }
    add_norm("output_norm");
    if (!options_.tied_embeddings) add_matrix("output", kVocabulary, embedding, 2.0F);
  }

 private:
  /// A product with normalised activations has a standard deviation of about `gain`.
  void add_matrix(const std::string& name, int rows, int columns, float gain) {
    const std::int64_t count = std::int64_t{rows} * columns;
    const float deviation = gain / std::sqrt(static_cast<float>(columns));
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = deviation * noise_.next();
    std::vector<std::byte> data(static_cast<std::size_t>(rows) *
                                row_bytes(options_.weight_type, columns));
    quantise(options_.weight_type, values.data(), count, data.data());
    writer_.add_tensor(name + ".weight", options_.weight_type, {columns, rows}, std::move(data));
  }

  void add_norm(const std::string& name) {
    std::vector<float> values(static_cast<std::size_t>(options_.embedding));
    for (float& value : values) value = 1.0F + 0.1F * noise_.next();
    const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
    writer_.add_tensor(name + ".weight", DType::f32, {options_.embedding},
                       {bytes.begin(), bytes.end()});
  }

  GgufWriter& writer_;
  const RandomModelOptions& options_;
  Noise noise_;
};

}  // namespace

GgufWriter random_llama(const RandomModelOptions& options) {
  GgufWriter writer;
  add_configuration(writer, options);
  add_vocabulary(writer);
  TensorMaker(writer, options).add_all();
  return writer;
}

void write_random_llama(const std::string& path, const RandomModelOptions& options) {
  random_llama(options).write(path);
}

}  // namespace sift
