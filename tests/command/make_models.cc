// Writes the model files that the command's tests run on: a good one, one that takes its
// time, and ones that are broken in one way each.
//
//   make_models FOLDER

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "sift/model/gguf_writer.h"
#include "sift/model/random_model.h"

namespace {

using Bytes = std::vector<std::byte>;

/// Where `text` stands first, at or after `from`.
std::size_t find(const Bytes& bytes, std::string_view text, std::size_t from = 0) {
  const auto found =
      std::search(bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes.end(), text.begin(),
                  text.end(), [](std::byte byte, char c) { return byte == std::byte(c); });
  if (found == bytes.end()) throw std::runtime_error("no such text: " + std::string(text));
  return static_cast<std::size_t>(found - bytes.begin());
}

template <class T>
void put(Bytes& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

/// Where the value of `key` begins: behind the key and its type.
std::size_t value_of(const Bytes& bytes, std::string_view key) {
  return find(bytes, key) + key.size() + sizeof(std::uint32_t);
}

struct Maker {
  std::filesystem::path folder;
  Bytes good;

  void write(const std::string& name, const Bytes& bytes) const {
    sift::write_file(folder / (name + ".gguf"), bytes);
  }

  template <class T>
  void change(const std::string& name, std::size_t at, T value) const {
    Bytes bytes = good;
    put(bytes, at, value);
    write(name, bytes);
  }

  /// A text of the file replaced by another of the same length.
  void replace(const std::string& name, std::string_view from, std::string_view to) const {
    Bytes bytes = good;
    std::memcpy(bytes.data() + find(bytes, from), to.data(), to.size());
    write(name, bytes);
  }

  void write_headers() const {
    change<std::uint32_t>("magic", 0, 0x21212121);
    change<std::uint32_t>("version", 4, 99);
    change<std::uint32_t>("big_endian", 4, 0x03000000);
    change<std::uint64_t>("counts", 8, ~std::uint64_t{0});
    Bytes half = good;
    half.resize(good.size() / 2);
    write("truncated", half);
    write("empty", {});
    write("text", Bytes(4096, std::byte{'a'}));
  }

  void write_configurations() const {
    change<std::uint32_t>("no_blocks", value_of(good, "llama.block_count"), 0);
    change<std::uint32_t>("many_blocks", value_of(good, "llama.block_count"), 1000000000);
    change<std::uint32_t>("kv_heads", value_of(good, "llama.attention.head_count_kv"), 3);
    change<std::uint32_t>("head_dim", value_of(good, "llama.attention.key_length"), 0);
    change<float>("rope_base", value_of(good, "llama.rope.freq_base"), 0.0F);
    replace("missing_tensor", "blk.1.ffn_up.weight", "blk.1.ffn_UP.weight");
    replace("duplicate_key", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id");
    replace("architecture", "llama", "lamma");
  }

  void write_tokenizers() const {
    replace("merge", "h e", "h Z");
    // Tokens stand behind their lengths of eight bytes.
    const std::string_view length("\x02\0\0\0\0\0\0\0", 8);
    const std::string in = std::string(length) + "in";
    const std::string is = std::string(length) + "is";
    replace("duplicate_token", in, is);
    change<std::uint32_t>("vocabulary", value_of(good, "llama.vocab_size"), 276);
    replace("no_chat_template", "tokenizer.chat_template", "tokenizer.chat_TEMPLATE");
    replace("chat_template", "{% for", "{% fur");
    replace("endless_template", "{% for message in messages %}", "{% for x in range(99999999)%}");
  }

  void write_weights() const {
    // The data of the last tensor ends the file.
    change<std::uint32_t>("nan_weight", good.size() - 4, 0x7fc00000);
    change<std::uint32_t>("infinite_weight", good.size() - 4, 0x7f800000);
  }
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: make_models FOLDER\n";
    return 2;
  }
  std::filesystem::create_directories(argv[1]);
  const Maker maker{argv[1], sift::random_llama({}).bytes()};
  maker.write("good", maker.good);
  sift::RandomModelOptions slow;
  slow.layers = 6;
  slow.embedding = 256;
  slow.feed_forward = 1024;
  slow.context = 4096;
  slow.weight_type = sift::DType::q8_0;
  maker.write("slow", sift::random_llama(slow).bytes());
  maker.write_headers();
  maker.write_configurations();
  maker.write_tokenizers();
  maker.write_weights();
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
