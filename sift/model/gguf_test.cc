#include "sift/model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sift/core/error.h"
#include "sift/model/gguf_writer.h"

namespace sift {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kNumber = [](GgufType type) { return static_cast<std::uint32_t>(type); };

GgufWriter example() {
  GgufWriter writer;
  writer.add_u32("u32", 4000000000U);
  writer.add_f32("f32", 0.5F);
  writer.add_bool("yes", true);
  writer.add_string("text", "naïve");
  const std::vector<std::string> words = {"a", "", "long word"};
  writer.add_strings("words", words);
  const std::vector<std::int32_t> numbers = {-1, 7};
  writer.add_i32s("numbers", numbers);
  writer.add_tensor("half", DType::f16, {3, 2}, std::vector<std::byte>(12, std::byte{1}));
  writer.add_tensor("blocks", DType::q8_0, {64, 1, 2}, std::vector<std::byte>(136));
  return writer;
}

TEST(Gguf, ReadsMetadata) {
  const std::vector<std::byte> file = example().bytes();
  const Gguf gguf(file, "example");
  EXPECT_EQ(gguf.version(), 3U);
  EXPECT_EQ(gguf.metadata().size(), 6U);
  EXPECT_EQ(gguf.metadata()[0].key, "u32");
  EXPECT_EQ(gguf.require<std::int64_t>("u32"), 4000000000);
  EXPECT_EQ(gguf.require<double>("f32"), 0.5);
  EXPECT_TRUE(gguf.require<bool>("yes"));
  EXPECT_EQ(gguf.require<std::string_view>("text"), "naïve");
  EXPECT_EQ(gguf.get<bool>("absent"), std::nullopt);
}

TEST(Gguf, ReadsArrays) {
  const std::vector<std::byte> file = example().bytes();
  const Gguf gguf(file, "example");
  const GgufStrings strings = gguf.require<GgufArray>("words").strings();
  const std::vector<std::string_view> words(strings.begin(), strings.end());
  EXPECT_THAT(words, ElementsAre("a", "", "long word"));
  const auto numbers = gguf.require<GgufArray>("numbers");
  EXPECT_EQ(numbers.element_type, GgufType::i32);
  ASSERT_EQ(numbers.count, 2U);
  EXPECT_EQ(numbers.integer(0), -1);
  EXPECT_EQ(numbers.integer(1), 7);
}

TEST(Gguf, ReadsTheTensorDirectory) {
  const std::vector<std::byte> file = example().bytes();
  const Gguf gguf(file, "example");
  const GgufTensor* half = gguf.find_tensor("half");
  ASSERT_NE(half, nullptr);
  EXPECT_EQ(half->type, DType::f16);
  EXPECT_EQ(half->dimensions, 2);
  EXPECT_THAT(half->shape, ElementsAre(3, 2, 1, 1));
  EXPECT_EQ(half->bytes, 12U);
  EXPECT_EQ(half->offset % 32, 0U);
  EXPECT_EQ(gguf.data(*half)[11], std::byte{1});
  EXPECT_EQ(gguf.find_tensor("blocks")->bytes, 136U);
  EXPECT_EQ(gguf.find_tensor("blocks")->offset, half->offset + 32);
  EXPECT_EQ(gguf.find_tensor("blobs"), nullptr);
}

template <class T>
void expect_scalar(GgufType type, T stored) {
  GgufWriter writer;
  writer.add_value("key", kNumber(type), std::as_bytes(std::span(&stored, 1)));
  const std::vector<std::byte> file = writer.bytes();
  const Gguf gguf(file, "example");
  EXPECT_EQ(gguf.metadata()[0].type, type);
  if constexpr (std::is_floating_point_v<T>) {
    EXPECT_EQ(gguf.require<double>("key"), stored);
  } else {
    EXPECT_EQ(gguf.require<std::int64_t>("key"), static_cast<std::int64_t>(stored));
  }
}

TEST(Gguf, ReadsEveryNumericType) {
  expect_scalar<std::uint8_t>(GgufType::u8, 200);
  expect_scalar<std::int8_t>(GgufType::i8, -100);
  expect_scalar<std::uint16_t>(GgufType::u16, 60000);
  expect_scalar<std::int16_t>(GgufType::i16, -30000);
  expect_scalar<std::uint32_t>(GgufType::u32, 4000000000U);
  expect_scalar<std::int32_t>(GgufType::i32, -2000000000);
  expect_scalar<std::uint64_t>(GgufType::u64, std::uint64_t{1} << 62);
  expect_scalar<std::int64_t>(GgufType::i64, -(std::int64_t{1} << 62));
  expect_scalar<float>(GgufType::f32, -0.25F);
  expect_scalar<double>(GgufType::f64, 1e300);
}

TEST(Gguf, ReadsVersion2) {
  std::vector<std::byte> file = example().bytes();
  file[4] = std::byte{2};
  EXPECT_EQ(Gguf(file, "example").version(), 2U);
}

TEST(Gguf, ReadsAnotherAlignment) {
  GgufWriter writer(64);
  writer.add_u32("general.alignment", 64);
  writer.add_tensor("a", DType::f32, {1}, std::vector<std::byte>(4));
  writer.add_tensor("b", DType::f32, {1}, std::vector<std::byte>(4));
  const std::vector<std::byte> file = writer.bytes();
  const Gguf gguf(file, "example");
  EXPECT_EQ(gguf.alignment(), 64U);
  EXPECT_EQ(gguf.find_tensor("b")->offset % 64, 0U);
}

template <class Function>
void expect_message(Function function, const std::string& message) {
  try {
    function();
    FAIL() << "expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(Gguf, GettersNameWhatIsWrong) {
  const std::vector<std::byte> file = example().bytes();
  const Gguf gguf(file, "some.gguf");
  expect_message([&] { gguf.require<std::int64_t>("none"); },
                 "some.gguf: none in the metadata: is missing, expected an integer");
  expect_message([&] { gguf.get<bool>("u32"); },
                 "some.gguf: u32 at offset 39: is of type u32, expected a boolean");
  expect_message([&] { gguf.get<std::int64_t>("f32"); }, "is of type f32, expected an integer");
  expect_message([&] { gguf.get<std::string_view>("words"); },
                 "is of type array, expected a string");
}

TEST(Gguf, UnsignedValuesOutOfRangeAreErrors) {
  const std::uint64_t huge = ~std::uint64_t{0};
  GgufWriter writer;
  writer.add_value("huge", kNumber(GgufType::u64), std::as_bytes(std::span(&huge, 1)));
  const std::vector<std::byte> file = writer.bytes();
  const Gguf gguf(file, "example");
  expect_message([&] { gguf.require<std::int64_t>("huge"); },
                 "is 18446744073709551615, which is out of range");
}

TEST(Gguf, MessagesShowHostileNamesHarmless) {
  EXPECT_EQ(printable("a\x1b[2Jb"), "a\\x1b[2Jb");
  EXPECT_EQ(printable(std::string(70, 'x')), std::string(64, 'x') + "...");
}

}  // namespace
}  // namespace sift
