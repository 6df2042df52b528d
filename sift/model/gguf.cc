#include "sift/model/gguf.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "sift/model/gguf_cursor.h"
#include "sift/model/gguf_types.h"

namespace sift {

static_assert(std::endian::native == std::endian::little, "files are read as they are stored");

namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint64_t kMaxNameBytes = 65535;
constexpr std::uint64_t kMinAlignment = 8;
constexpr std::uint64_t kMaxAlignment = std::uint64_t{1} << 20;
constexpr int kMaxDimensions = 4;
// The fewest bytes that an entry can take: of metadata (key length, one byte, type, one byte) and
// of the tensor directory (name length, one byte, dimension count, dimension, type, offset).
constexpr std::uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

void read_magic(GgufCursor& cursor) {
  if (cursor.remaining() < 4) cursor.fail("magic", "the file is too short for a GGUF header");
  GgufCursor ahead = cursor;
  const auto magic = ahead.read<std::uint32_t>("magic");
  if (magic != kMagic) cursor.fail("magic", fmt::format("found {:#010x}, expected GGUF", magic));
  cursor = ahead;
}

std::uint32_t read_version(GgufCursor& cursor) {
  GgufCursor ahead = cursor;
  const auto version = ahead.read<std::uint32_t>("version");
  if (version != 0 && (version & 0xffffU) == 0) {
    cursor.fail("version", "the file is big-endian, expected little-endian");
  }
  if (version != 2 && version != 3) {
    cursor.fail("version", fmt::format("found {}, expected 2 or 3", version));
  }
  cursor = ahead;
  return version;
}

/// A count of entries that the rest of the file can hold.
std::uint64_t read_count(GgufCursor& cursor, std::string_view field) {
  GgufCursor ahead = cursor;
  const auto count = ahead.read<std::uint64_t>(field);
  if (count > Gguf::kMaxEntries) {
    cursor.fail(field, fmt::format("found {}, expected at most {}", count, Gguf::kMaxEntries));
  }
  cursor = ahead;
  return count;
}

void check_room(const GgufCursor& cursor, std::string_view field, std::uint64_t count,
                std::uint64_t bytes_each) {
  if (count > cursor.remaining() / bytes_each) {
    cursor.fail(field,
                fmt::format("{} of them need at least {} bytes each, but the file ends after {}",
                            count, bytes_each, cursor.remaining()));
  }
}

std::string_view read_name(GgufCursor& cursor, std::string_view field) {
  GgufCursor ahead = cursor;
  const std::string_view name = ahead.read_string(field);
  if (name.empty() || name.size() > kMaxNameBytes) {
    cursor.fail(field,
                fmt::format("a name of {} bytes, expected 1 to {}", name.size(), kMaxNameBytes));
  }
  cursor = ahead;
  return name;
}

GgufType read_type(GgufCursor& cursor, std::string_view field) {
  GgufCursor ahead = cursor;
  const auto type = ahead.read<std::uint32_t>(field);
  if (type > static_cast<std::uint32_t>(GgufType::f64)) {
    cursor.fail(field, fmt::format("unknown value type {}", type));
  }
  cursor = ahead;
  return static_cast<GgufType>(type);
}

bool read_boolean(GgufCursor& cursor, std::string_view field) {
  GgufCursor ahead = cursor;
  const auto value = ahead.read<std::uint8_t>(field);
  if (value > 1) cursor.fail(field, fmt::format("a boolean of value {}, expected 0 or 1", value));
  cursor = ahead;
  return value == 1;
}

GgufArray read_array(GgufCursor& cursor, std::string_view field) {
  const GgufCursor start = cursor;
  GgufArray array;
  array.element_type = read_type(cursor, field);
  if (array.element_type == GgufType::array) start.fail(field, "an array of arrays");
  array.count = cursor.read<std::uint64_t>(field);
  const std::uint64_t bytes_each = scalar_bytes(array.element_type);
  check_room(cursor, field, array.count, bytes_each);
  GgufCursor elements = cursor;
  if (array.element_type == GgufType::string) {
    for (std::uint64_t i = 0; i < array.count; ++i) cursor.read_string(field);
  } else {
    cursor.take(array.count * bytes_each, field);
  }
  array.data = elements.take(cursor.offset() - elements.offset(), field);
  if (array.element_type == GgufType::boolean) {
    GgufCursor values = start;
    values.take(4 + 8, field);
    for (std::uint64_t i = 0; i < array.count; ++i) read_boolean(values, field);
  }
  return array;
}

template <class Stored, class Value>
void read_scalar(GgufCursor& cursor, std::string_view field, GgufEntry& entry) {
  entry.value = static_cast<Value>(cursor.read<Stored>(field));
}

void read_value(GgufCursor& cursor, std::string_view field, GgufEntry& entry) {
  switch (entry.type) {
    case GgufType::u8:
      return read_scalar<std::uint8_t, std::uint64_t>(cursor, field, entry);
    case GgufType::i8:
      return read_scalar<std::int8_t, std::int64_t>(cursor, field, entry);
    case GgufType::u16:
      return read_scalar<std::uint16_t, std::uint64_t>(cursor, field, entry);
    case GgufType::i16:
      return read_scalar<std::int16_t, std::int64_t>(cursor, field, entry);
    case GgufType::u32:
      return read_scalar<std::uint32_t, std::uint64_t>(cursor, field, entry);
    case GgufType::i32:
      return read_scalar<std::int32_t, std::int64_t>(cursor, field, entry);
    case GgufType::f32:
      return read_scalar<float, double>(cursor, field, entry);
    case GgufType::u64:
      return read_scalar<std::uint64_t, std::uint64_t>(cursor, field, entry);
    case GgufType::i64:
      return read_scalar<std::int64_t, std::int64_t>(cursor, field, entry);
    case GgufType::f64:
      return read_scalar<double, double>(cursor, field, entry);
    case GgufType::boolean:
      entry.value = read_boolean(cursor, field);
      return;
    case GgufType::string:
      entry.value = cursor.read_string(field);
      return;
    case GgufType::array:
      entry.value = read_array(cursor, field);
      return;
  }
}

GgufEntry read_entry(GgufCursor& cursor) {
  GgufEntry entry;
  entry.key = read_name(cursor, "metadata key");
  const std::string field = printable(entry.key);
  entry.type = read_type(cursor, field);
  entry.offset = cursor.offset();
  read_value(cursor, field, entry);
  return entry;
}

/// Shape and the bytes that it takes. A row must hold whole blocks.
void read_shape(GgufCursor& cursor, const std::string& field, GgufTensor& tensor) {
  const GgufCursor start = cursor;
  const auto dimensions = cursor.read<std::uint32_t>(field);
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    start.fail(field, fmt::format("{} dimensions, expected 1 to {}", dimensions, kMaxDimensions));
  }
  tensor.dimensions = static_cast<int>(dimensions);
  std::int64_t values = 1;
  for (int i = 0; i < tensor.dimensions; ++i) {
    const GgufCursor before = cursor;
    const auto extent = cursor.read<std::int64_t>(field);
    if (extent < 1)
      before.fail(field, fmt::format("dimension {} is {}, expected 1 or more", i, extent));
    if (__builtin_mul_overflow(values, extent, &values)) {
      before.fail(field, "the product of the dimensions overflows");
    }
    tensor.shape[static_cast<std::size_t>(i)] = extent;
  }
}

void read_data_type(GgufCursor& cursor, const std::string& field, GgufTensor& tensor) {
  const GgufCursor start = cursor;
  const auto number = cursor.read<std::uint32_t>(field);
  const std::optional<DType> type = dtype_from_ggml(number);
  if (!type) {
    start.fail(field,
               fmt::format("its element type {} is not one that can be read", ggml_name(number)));
  }
  tensor.type = *type;
  const DTypeTraits& format = traits(tensor.type);
  if (tensor.shape[0] % format.block_values != 0) {
    start.fail(field, fmt::format("rows of {} values are no multiple of {}'s blocks of {}",
                                  tensor.shape[0], format.name, format.block_values));
  }
  std::uint64_t bytes = static_cast<std::uint64_t>(tensor.shape[0] / format.block_values);
  bool overflow =
      __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(format.block_bytes), &bytes);
  for (int i = 1; i < tensor.dimensions; ++i) {
    overflow |= __builtin_mul_overflow(
        bytes, static_cast<std::uint64_t>(tensor.shape[static_cast<std::size_t>(i)]), &bytes);
  }
  if (overflow) start.fail(field, "the size in bytes overflows");
  tensor.bytes = bytes;
}

/// The offset is still relative to the tensor data.
GgufTensor read_tensor(GgufCursor& cursor) {
  GgufTensor tensor;
  tensor.entry_offset = cursor.offset();
  tensor.name = read_name(cursor, "tensor name");
  const std::string field = fmt::format("tensor {}", printable(tensor.name));
  read_shape(cursor, field, tensor);
  read_data_type(cursor, field, tensor);
  tensor.offset = cursor.read<std::uint64_t>(field);
  return tensor;
}

struct Preamble {
  std::uint32_t version;
  std::uint64_t tensor_count;
  std::uint64_t entry_count;
};

Preamble read_preamble(GgufCursor& cursor) {
  read_magic(cursor);
  Preamble preamble{};
  preamble.version = read_version(cursor);
  preamble.tensor_count = read_count(cursor, "tensor_count");
  preamble.entry_count = read_count(cursor, "metadata_kv_count");
  check_room(cursor, "metadata_kv_count", preamble.entry_count, kMinEntryBytes);
  check_room(cursor, "tensor_count", preamble.tensor_count, kMinTensorBytes);
  return preamble;
}

/// Bytes up to the end of the tensor directory.
std::uint64_t header_bytes(std::span<const std::byte> file, std::string_view name) {
  GgufCursor cursor(file, name);
  const Preamble preamble = read_preamble(cursor);
  for (std::uint64_t i = 0; i < preamble.entry_count; ++i) read_entry(cursor);
  for (std::uint64_t i = 0; i < preamble.tensor_count; ++i) read_tensor(cursor);
  return cursor.offset();
}

/// Indices of `items` in the order of their names, which must differ.
template <class Item, class Name, class Fail>
std::vector<std::uint32_t> name_order(const std::vector<Item>& items, Name name, Fail duplicate) {
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, {}, [&](std::uint32_t i) { return name(items[i]); });
  const auto found =
      std::ranges::adjacent_find(order, {}, [&](std::uint32_t i) { return name(items[i]); });
  if (found != order.end()) duplicate(items[*(found + 1)]);
  return order;
}

template <class Item, class Name>
const Item* find_by_name(const std::vector<Item>& items, const std::vector<std::uint32_t>& order,
                         std::string_view wanted, Name name) {
  const auto found =
      std::ranges::lower_bound(order, wanted, {}, [&](std::uint32_t i) { return name(items[i]); });
  return found != order.end() && name(items[*found]) == wanted ? &items[*found] : nullptr;
}

constexpr auto kKey = [](const GgufEntry& entry) { return entry.key; };
constexpr auto kName = [](const GgufTensor& tensor) { return tensor.name; };

}  // namespace

Gguf::Gguf(std::span<const std::byte> file, std::string name)
    : file_(file), name_(std::move(name)) {
  const std::span<const std::byte> header = file.first(header_bytes(file, name_));
  header_.assign(header.begin(), header.end());
  GgufCursor cursor(header_, name_);
  const Preamble preamble = read_preamble(cursor);
  version_ = preamble.version;
  read_metadata(cursor, preamble.entry_count);
  read_alignment();
  read_tensors(cursor, preamble.tensor_count);
}

void Gguf::read_metadata(GgufCursor& cursor, std::uint64_t count) {
  entries_.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) entries_.push_back(read_entry(cursor));
  entry_order_ = name_order(entries_, kKey, [this](const GgufEntry& entry) {
    fail_at(name_, printable(entry.key), entry.offset, "the key occurs twice");
  });
}

void Gguf::read_alignment() {
  constexpr std::string_view kAlignmentKey = "general.alignment";
  const GgufEntry* entry = find(kAlignmentKey);
  if (entry == nullptr) return;
  if (entry->type != GgufType::u32) {
    fail(kAlignmentKey, fmt::format("is of type {}, expected u32", type_name(entry->type)));
  }
  alignment_ = std::get<std::uint64_t>(entry->value);
  if (!std::has_single_bit(alignment_) || alignment_ < kMinAlignment ||
      alignment_ > kMaxAlignment) {
    fail(kAlignmentKey, fmt::format("is {}, expected a power of two from {} to {}", alignment_,
                                    kMinAlignment, kMaxAlignment));
  }
}

void Gguf::read_tensors(GgufCursor& cursor, std::uint64_t count) {
  tensors_.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) tensors_.push_back(read_tensor(cursor));
  tensor_order_ = name_order(
      tensors_, kName, [this](const GgufTensor& tensor) { fail(tensor, "the name occurs twice"); });
  const std::uint64_t data_start = (cursor.offset() + alignment_ - 1) / alignment_ * alignment_;
  place_tensors(data_start);
}

/// Turns the offsets into offsets in the file: data must lie inside it and must not overlap.
void Gguf::place_tensors(std::uint64_t data_start) {
  const std::uint64_t available = file_.size() < data_start ? 0 : file_.size() - data_start;
  for (GgufTensor& tensor : tensors_) {
    if (tensor.offset % alignment_ != 0) {
      fail(tensor, fmt::format("its data offset {} is no multiple of the alignment {}",
                               tensor.offset, alignment_));
    }
    if (tensor.offset > available || tensor.bytes > available - tensor.offset) {
      fail(tensor, fmt::format("its {} bytes of data at data offset {} pass the end of the file, "
                               "which has {} bytes of tensor data",
                               tensor.bytes, tensor.offset, available));
    }
    tensor.offset += data_start;
  }
  std::vector<const GgufTensor*> order;
  order.reserve(tensors_.size());
  for (const GgufTensor& tensor : tensors_) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const GgufTensor* tensor) { return tensor->offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset) {
      fail(*order[i],
           fmt::format("its data overlaps that of tensor {}", printable(order[i - 1]->name)));
    }
  }
}

const GgufEntry* Gguf::find(std::string_view key) const {
  return find_by_name(entries_, entry_order_, key, kKey);
}

const GgufTensor* Gguf::find_tensor(std::string_view name) const {
  return find_by_name(tensors_, tensor_order_, name, kName);
}

void Gguf::fail(std::string_view key, const std::string& what) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {} in the metadata: {}", name_, key, what));
  }
  fail_at(name_, printable(key), entry->offset, what);
}

void Gguf::fail(const GgufTensor& tensor, const std::string& what) const {
  fail_at(name_, fmt::format("tensor {}", printable(tensor.name)), tensor.entry_offset, what);
}

template <class T>
std::optional<T> Gguf::get(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const T* value = std::get_if<T>(&entry->value)) return *value;
  fail(key, fmt::format("is of type {}, expected {}", type_name(entry->type), wanted_name<T>()));
}

template <>
std::optional<std::int64_t> Gguf::get<std::int64_t>(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* value = std::get_if<std::int64_t>(&entry->value)) return *value;
  const auto* value = std::get_if<std::uint64_t>(&entry->value);
  if (value == nullptr) {
    fail(key, fmt::format("is of type {}, expected an integer", type_name(entry->type)));
  }
  if (*value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    fail(key, fmt::format("is {}, which is out of range", *value));
  }
  return static_cast<std::int64_t>(*value);
}

template <class T>
T Gguf::require(std::string_view key) const {
  const std::optional<T> value = get<T>(key);
  if (!value) fail(key, fmt::format("is missing, expected {}", wanted_name<T>()));
  return *value;
}

template std::optional<double> Gguf::get(std::string_view) const;
template std::optional<bool> Gguf::get(std::string_view) const;
template std::optional<std::string_view> Gguf::get(std::string_view) const;
template std::optional<GgufArray> Gguf::get(std::string_view) const;
template std::int64_t Gguf::require(std::string_view) const;
template double Gguf::require(std::string_view) const;
template bool Gguf::require(std::string_view) const;
template std::string_view Gguf::require(std::string_view) const;
template GgufArray Gguf::require(std::string_view) const;

}  // namespace sift
