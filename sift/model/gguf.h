#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sift/core/dtype.h"

namespace sift {

class GgufCursor;

/// Types of metadata values, numbered as in the file.
enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

std::string_view type_name(GgufType type);

/// The strings of an array, read straight from the header: iterate, or copy into a vector.
class GgufStrings {
 public:
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string_view*;
    using reference = std::string_view;

    Iterator() = default;
    explicit Iterator(const std::byte* position) : position_(position) {}
    std::string_view operator*() const;
    Iterator& operator++();
    Iterator operator++(int);
    bool operator==(const Iterator&) const = default;

   private:
    const std::byte* position_ = nullptr;  // at the 8-byte length
  };

  explicit GgufStrings(std::span<const std::byte> data) : data_(data) {}
  Iterator begin() const { return Iterator(data_.data()); }
  Iterator end() const { return Iterator(data_.data() + data_.size()); }

 private:
  std::span<const std::byte> data_;
};

/// An array, as it is stored. Its elements have been checked to lie inside `data`.
struct GgufArray {
  GgufType element_type = GgufType::u8;
  std::uint64_t count = 0;
  std::span<const std::byte> data;

  /// REQUIRES: element_type is an integer or boolean type and index < count. Throws
  /// Error{bad_file} for a 64-bit unsigned value that does not fit.
  std::int64_t integer(std::uint64_t index) const;
  /// REQUIRES: element_type is f32 or f64 and index < count.
  double number(std::uint64_t index) const;
  /// REQUIRES: element_type is string.
  GgufStrings strings() const { return GgufStrings(data); }
};

struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::u8;
  std::uint64_t offset = 0;  ///< of the value in the file
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray> value;
};

struct GgufTensor {
  std::string_view name;
  DType type = DType::f32;
  int dimensions = 0;
  std::array<std::int64_t, 4> shape{1, 1, 1, 1};  ///< fastest varying first; unused ones are 1
  std::uint64_t entry_offset = 0;                 ///< of its directory entry in the file
  std::uint64_t offset = 0;                       ///< of its data in the file
  std::uint64_t bytes = 0;
};

/// The header of a GGUF file (version 2 or 3, little-endian): typed metadata and the tensor
/// directory. Everything in it has been validated against the file's size. Names, strings and
/// arrays are views into one copy of the header's bytes: no claim of the file makes this allocate
/// much, and nothing that happens to the file later can reach them. Source: the GGUF specification
/// (ggml, docs/gguf.md).
class Gguf {
 public:
  static constexpr std::uint64_t kMaxEntries = 65536;  ///< of metadata, and of tensors

  /// `file` must outlive data(); `name` is what messages call it. Throws Error{bad_file} that names
  /// the file, the field and its offset.
  Gguf(std::span<const std::byte> file, std::string name);

  // Moving keeps the views valid, copying would not.
  Gguf(Gguf&&) = default;
  Gguf& operator=(Gguf&&) = default;

  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  const std::string& name() const { return name_; }
  std::span<const std::byte> file() const { return file_; }

  /// In the file's order.
  std::span<const GgufEntry> metadata() const { return entries_; }
  std::span<const GgufTensor> tensors() const { return tensors_; }

  /// Null when absent.
  const GgufEntry* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;

  /// The value of `key`, or nothing when it is absent. T is one of std::int64_t (any integer type),
  /// double (f32, f64), bool, std::string_view, GgufArray. Throws Error{bad_file} when the value is
  /// of another type.
  template <class T>
  std::optional<T> get(std::string_view key) const;
  /// As get(); throws Error{bad_file} when `key` is absent.
  template <class T>
  T require(std::string_view key) const;

  /// Throws Error{bad_file} about the metadata value of `key`, naming file, key and offset.
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;
  /// Throws Error{bad_file} about a tensor, naming file, tensor and the offset of its entry.
  [[noreturn]] void fail(const GgufTensor& tensor, const std::string& what) const;

  /// The tensor's stored bytes.
  std::span<const std::byte> data(const GgufTensor& tensor) const {
    return file_.subspan(tensor.offset, tensor.bytes);
  }

 private:
  void read_metadata(GgufCursor& cursor, std::uint64_t count);
  void read_alignment();
  void read_tensors(GgufCursor& cursor, std::uint64_t count);
  void place_tensors(std::uint64_t data_start);

  std::span<const std::byte> file_;
  std::vector<std::byte> header_;
  std::string name_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  // Indices of the above in the order of their names, for lookups.
  std::vector<std::uint32_t> entry_order_;
  std::vector<std::uint32_t> tensor_order_;
};

template <>
std::optional<std::int64_t> Gguf::get<std::int64_t>(std::string_view key) const;

/// `text` for a message: cut after 64 bytes, and without unprintable ones.
std::string printable(std::string_view text);

}  // namespace sift
