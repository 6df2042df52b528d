#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sift/core/dtype.h"
#include "sift/model/gguf.h"

namespace sift {

/// Collects metadata and tensors, and lays them out as a GGUF file of version 3. It checks nothing:
/// tests use it for broken files too.
class GgufWriter {
 public:
  explicit GgufWriter(std::uint64_t alignment = 32) : alignment_(alignment) {}

  void add_u32(std::string_view key, std::uint32_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_i32s(std::string_view key, std::span<const std::int32_t> values);
  /// A value of any type, given as the bytes that follow the type in the file.
  void add_value(std::string_view key, std::uint32_t type, std::span<const std::byte> value);

  /// `shape` has the fastest varying dimension first, as in the file.
  void add_tensor(std::string_view name, DType type, std::vector<std::int64_t> shape,
                  std::vector<std::byte> data);

  /// The whole file.
  std::vector<std::byte> bytes() const;
  /// Throws Error{input_output}.
  void write(const std::string& path) const;

 private:
  struct Tensor {
    std::string name;
    DType type;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> data;
  };

  std::uint64_t alignment_;
  std::uint64_t entry_count_ = 0;
  std::vector<std::byte> entries_;
  std::vector<Tensor> tensors_;
};

/// Writes `bytes` to the file `path`. Throws Error{input_output}.
void write_file(const std::string& path, std::span<const std::byte> bytes);

}  // namespace sift
