#include "sift/model/gguf_writer.h"

#include <fmt/format.h>

#include <fstream>
#include <utility>

#include "sift/core/error.h"
#include "sift/model/gguf_types.h"

namespace sift {
namespace {

using Bytes = std::vector<std::byte>;

void append(Bytes& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <class T>
void append_scalar(Bytes& out, T value) {
  append(out, std::as_bytes(std::span(&value, 1)));
}

void append_string(Bytes& out, std::string_view text) {
  append_scalar<std::uint64_t>(out, text.size());
  append(out, std::as_bytes(std::span(text)));
}

template <class T>
Bytes scalar_value(T value) {
  Bytes out;
  append_scalar(out, value);
  return out;
}

Bytes array_header(GgufType type, std::uint64_t count) {
  Bytes out;
  append_scalar(out, static_cast<std::uint32_t>(type));
  append_scalar(out, count);
  return out;
}

void pad(Bytes& out, std::uint64_t alignment) {
  out.resize((out.size() + alignment - 1) / alignment * alignment);
}

}  // namespace

void GgufWriter::add_value(std::string_view key, std::uint32_t type,
                           std::span<const std::byte> value) {
  append_string(entries_, key);
  append_scalar(entries_, type);
  append(entries_, value);
  ++entry_count_;
}

void GgufWriter::add_u32(std::string_view key, std::uint32_t value) {
  add_value(key, static_cast<std::uint32_t>(GgufType::u32), scalar_value(value));
}

void GgufWriter::add_f32(std::string_view key, float value) {
  add_value(key, static_cast<std::uint32_t>(GgufType::f32), scalar_value(value));
}

void GgufWriter::add_bool(std::string_view key, bool value) {
  add_value(key, static_cast<std::uint32_t>(GgufType::boolean), scalar_value(value));
}

void GgufWriter::add_string(std::string_view key, std::string_view value) {
  Bytes out;
  append_string(out, value);
  add_value(key, static_cast<std::uint32_t>(GgufType::string), out);
}

void GgufWriter::add_strings(std::string_view key, std::span<const std::string> values) {
  Bytes out = array_header(GgufType::string, values.size());
  for (const std::string& value : values) append_string(out, value);
  add_value(key, static_cast<std::uint32_t>(GgufType::array), out);
}

void GgufWriter::add_i32s(std::string_view key, std::span<const std::int32_t> values) {
  Bytes out = array_header(GgufType::i32, values.size());
  append(out, std::as_bytes(values));
  add_value(key, static_cast<std::uint32_t>(GgufType::array), out);
}

void GgufWriter::add_tensor(std::string_view name, DType type, std::vector<std::int64_t> shape,
                            std::vector<std::byte> data) {
  tensors_.push_back({std::string(name), type, std::move(shape), std::move(data)});
}

std::vector<std::byte> GgufWriter::bytes() const {
  Bytes out;
  append(out, std::as_bytes(std::span("GGUF", 4)));
  append_scalar<std::uint32_t>(out, 3);
  append_scalar<std::uint64_t>(out, tensors_.size());
  append_scalar<std::uint64_t>(out, entry_count_);
  append(out, entries_);
  std::uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_string(out, tensor.name);
    append_scalar(out, static_cast<std::uint32_t>(tensor.shape.size()));
    for (const std::int64_t extent : tensor.shape) append_scalar(out, extent);
    append_scalar(out, ggml_from_dtype(tensor.type));
    append_scalar(out, offset);
    offset += (tensor.data.size() + alignment_ - 1) / alignment_ * alignment_;
  }
  for (const Tensor& tensor : tensors_) {
    pad(out, alignment_);
    append(out, tensor.data);
  }
  pad(out, alignment_);
  return out;
}

void GgufWriter::write(const std::string& path) const { write_file(path, bytes()); }

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw Error(ErrorKind::input_output, fmt::format("{}: cannot be written", path));
}

}  // namespace sift
