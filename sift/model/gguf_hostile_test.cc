// Broken and hostile files: each is an Error{bad_file} that names file, field and offset.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "sift/core/error.h"
#include "sift/model/gguf.h"
#include "sift/model/gguf_writer.h"
#include "sift/model/random_model.h"

namespace sift {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kU32 = 4;
constexpr std::uint32_t kBoolean = 7;
constexpr std::uint32_t kString = 8;
constexpr std::uint32_t kArray = 9;

// Where things stand in a file without metadata whose tensor is called "t".
constexpr std::size_t kVersionAt = 4;
constexpr std::size_t kTensorCountAt = 8;
constexpr std::size_t kEntryCountAt = 16;
constexpr std::size_t kTensorAt = 24;
constexpr std::size_t kDimensionsAt = kTensorAt + 8 + 1;
constexpr std::size_t kShapeAt = kDimensionsAt + 4;

template <class T>
void put(Bytes& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

template <class... T>
Bytes raw(T... values) {
  Bytes bytes;
  const auto add = [&](auto value) {
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof(value));
    put(bytes, at, value);
  };
  (add(values), ...);
  return bytes;
}

void expect_refused(const Bytes& file, const std::string& field, const std::string& message) {
  try {
    const Gguf taken(file, "evil.gguf");
    FAIL() << "taken, expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("evil.gguf: " + field + " at offset "), HasSubstr(message)));
  }
}

Bytes one_tensor() {
  GgufWriter writer;
  writer.add_tensor("t", DType::q4_0, {32, 2}, Bytes(36));
  return writer.bytes();
}

Bytes with_value(const std::string& key, std::uint32_t type, const Bytes& value) {
  GgufWriter writer;
  writer.add_value(key, type, value);
  return writer.bytes();
}

TEST(GgufHostile, BaseFileIsTaken) { EXPECT_NO_THROW(Gguf(one_tensor(), "good")); }

TEST(GgufHostile, Case1WrongMagic) {
  Bytes file = one_tensor();
  file[0] = std::byte{'g'};
  expect_refused(file, "magic", "expected GGUF");
  expect_refused({}, "magic", "too short");
}

TEST(GgufHostile, Case2Versions) {
  for (const std::uint32_t version : {0U, 1U, 4U, 0xffffffffU}) {
    Bytes file = one_tensor();
    put(file, kVersionAt, version);
    expect_refused(file, "version", "expected 2 or 3");
  }
}

TEST(GgufHostile, Case3BigEndian) {
  Bytes file = one_tensor();
  put(file, kVersionAt, 0x03000000U);
  expect_refused(file, "version", "big-endian");
}

TEST(GgufHostile, Case4HugeCounts) {
  for (const std::uint64_t count : {~std::uint64_t{0}, std::uint64_t{60000}}) {
    Bytes file = one_tensor();
    put(file, kTensorCountAt, count);
    expect_refused(file, "tensor_count", std::to_string(count));
    file = one_tensor();
    put(file, kEntryCountAt, count);
    expect_refused(file, "metadata_kv_count", std::to_string(count));
  }
}

TEST(GgufHostile, Case5StringsAndArraysBeyondTheFile) {
  for (const std::uint64_t length : {std::uint64_t{100}, ~std::uint64_t{0}}) {
    expect_refused(with_value("key", kString, raw(length)), "key", "but the file ends after");
    for (std::uint32_t element = 0; element <= 12; ++element) {
      if (element == kArray) continue;
      expect_refused(with_value("key", kArray, raw(element, length)), "key",
                     "but the file ends after");
    }
  }
  // The array's count fits, a string in it does not.
  expect_refused(with_value("key", kArray, raw(kString, std::uint64_t{1}, std::uint64_t{999})),
                 "key", "needs 999 bytes");
  Bytes file = one_tensor();
  put(file, kTensorAt, ~std::uint64_t{0} - 3);
  expect_refused(file, "tensor name", "but the file ends after");
}

TEST(GgufHostile, Case6ValueTypes) {
  expect_refused(with_value("key", kArray, raw(kArray, std::uint64_t{1}, kU32, std::uint64_t{0})),
                 "key", "an array of arrays");
  expect_refused(with_value("key", 13, raw(0U)), "key", "unknown value type 13");
  expect_refused(with_value("key", kArray, raw(0xffffffffU, std::uint64_t{0})), "key",
                 "unknown value type 4294967295");
  expect_refused(with_value("key", kBoolean, raw(std::uint8_t{2})), "key", "a boolean of value 2");
  expect_refused(
      with_value("key", kArray, raw(kBoolean, std::uint64_t{2}, std::uint8_t{1}, std::uint8_t{9})),
      "key", "a boolean of value 9");
}

TEST(GgufHostile, Case7DuplicateKey) {
  GgufWriter writer;
  writer.add_u32("same", 1);
  writer.add_u32("other", 1);
  writer.add_u32("same", 2);
  expect_refused(writer.bytes(), "same", "the key occurs twice");
}

TEST(GgufHostile, Case8Alignment) {
  for (const std::uint32_t alignment : {0U, 1U, 4U, 13U, 0x80000000U}) {
    expect_refused(with_value("general.alignment", kU32, raw(alignment)), "general.alignment",
                   "expected a power of two");
  }
  expect_refused(with_value("general.alignment", 10, raw(std::uint64_t{32})), "general.alignment",
                 "is of type u64, expected u32");
}

TEST(GgufHostile, Case9DimensionCount) {
  for (const std::uint32_t count : {0U, 5U, 0xffffffffU}) {
    Bytes file = one_tensor();
    put(file, kDimensionsAt, count);
    expect_refused(file, "tensor t", "dimensions, expected 1 to 4");
  }
}

TEST(GgufHostile, Case10Dimensions) {
  for (const std::int64_t extent : {std::int64_t{0}, std::int64_t{-32}}) {
    Bytes file = one_tensor();
    put(file, kShapeAt, extent);
    expect_refused(file, "tensor t", "expected 1 or more");
  }
  Bytes file = one_tensor();
  put(file, kShapeAt, std::int64_t{1} << 40);
  put(file, kShapeAt + 8, std::int64_t{1} << 40);
  expect_refused(file, "tensor t", "overflows");
  // The number of values fits in 64 bits, the number of bytes does not.
  GgufWriter writer;
  writer.add_tensor("t", DType::f32, {std::int64_t{1} << 31, std::int64_t{1} << 31}, Bytes(4));
  expect_refused(writer.bytes(), "tensor t", "overflows");
}

TEST(GgufHostile, Case11TensorType) {
  for (const auto& [number, name] : {std::pair{4U, "4"}, {11U, "11 (Q3_K)"}, {999U, "999"}}) {
    Bytes file = one_tensor();
    put(file, kShapeAt + 16, number);
    expect_refused(file, "tensor t", "its element type " + std::string(name) + " is not one");
  }
}

TEST(GgufHostile, Case12RowOfPartBlocks) {
  Bytes file = one_tensor();
  put(file, kShapeAt, std::int64_t{33});
  expect_refused(file, "tensor t", "rows of 33 values are no multiple of q4_0's blocks of 32");
}

TEST(GgufHostile, Case13Offsets) {
  const std::size_t offset_at = kShapeAt + 16 + 4;
  Bytes file = one_tensor();
  put(file, offset_at, std::uint64_t{16});
  expect_refused(file, "tensor t", "no multiple of the alignment 32");
  for (const std::uint64_t offset : {std::uint64_t{64}, ~std::uint64_t{31}}) {
    put(file, offset_at, offset);
    expect_refused(file, "tensor t", "pass the end of the file");
  }
  GgufWriter writer;
  writer.add_tensor("a", DType::f32, {16}, Bytes(64));
  writer.add_tensor("b", DType::f32, {16}, Bytes(64));
  file = writer.bytes();
  // "b" moves back by 32 bytes, into the second half of "a".
  put(file, 24 + (8 + 1 + 4 + 8 + 4 + 8) * 2 - 8, std::uint64_t{32});
  expect_refused(file, "tensor b", "overlaps that of tensor a");
}

TEST(GgufHostile, Case14DuplicateTensor) {
  GgufWriter writer;
  writer.add_tensor("same", DType::f32, {1}, Bytes(4));
  writer.add_tensor("same", DType::f32, {1}, Bytes(4));
  expect_refused(writer.bytes(), "tensor same", "the name occurs twice");
}

TEST(GgufHostile, NamesMustNotBeEmptyOrHuge) {
  expect_refused(with_value("", kU32, raw(0U)), "metadata key", "a name of 0 bytes");
  expect_refused(with_value(std::string(65536, 'k'), kU32, raw(0U)), "metadata key",
                 "a name of 65536 bytes");
}

TEST(GgufHostile, Case19TruncationAtEveryByte) {
  RandomModelOptions options;
  options.layers = 1;
  options.embedding = 32;
  options.heads = 2;
  options.kv_heads = 1;
  options.feed_forward = 32;
  options.weight_type = DType::q4_0;
  const Bytes file = random_llama(options).bytes();
  ASSERT_NO_THROW(Gguf(file, "whole"));
  const auto last =
      std::find_if(file.rbegin(), file.rend(), [](std::byte b) { return b != std::byte{0}; });
  const std::size_t without_padding = file.size() - static_cast<std::size_t>(last - file.rbegin());
  for (std::size_t size = 0; size < without_padding; ++size) {
    // A copy of its own, so that a sanitizer sees a read behind the end.
    const Bytes part(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    ASSERT_THROW(Gguf(part, "part"), Error) << size;
  }
}

}  // namespace
}  // namespace sift
