#include "sift/model/gguf_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "sift/core/error.h"

namespace sift {
namespace {

struct TypeInfo {
  std::string_view name;
  std::uint64_t bytes;
};

// Indexed by GgufType.
constexpr std::array<TypeInfo, 13> kTypes = {{
    {"u8", 1},
    {"i8", 1},
    {"u16", 2},
    {"i16", 2},
    {"u32", 4},
    {"i32", 4},
    {"f32", 4},
    {"bool", 1},
    {"string", 8},
    {"array", 12},
    {"u64", 8},
    {"i64", 8},
    {"f64", 8},
}};

struct GgmlType {
  std::uint32_t number;
  std::string_view name;
  std::optional<DType> type;
};

constexpr std::array<GgmlType, 34> kGgmlTypes = {{
    {0, "F32", DType::f32},       {1, "F16", DType::f16},        {2, "Q4_0", DType::q4_0},
    {3, "Q4_1", DType::q4_1},     {6, "Q5_0", DType::q5_0},      {7, "Q5_1", DType::q5_1},
    {8, "Q8_0", DType::q8_0},     {9, "Q8_1", std::nullopt},     {10, "Q2_K", std::nullopt},
    {11, "Q3_K", std::nullopt},   {12, "Q4_K", DType::q4_k},     {13, "Q5_K", DType::q5_k},
    {14, "Q6_K", DType::q6_k},    {15, "Q8_K", std::nullopt},    {16, "IQ2_XXS", std::nullopt},
    {17, "IQ2_XS", std::nullopt}, {18, "IQ3_XXS", std::nullopt}, {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", std::nullopt}, {21, "IQ3_S", std::nullopt},   {22, "IQ2_S", std::nullopt},
    {23, "IQ4_XS", std::nullopt}, {24, "I8", std::nullopt},      {25, "I16", std::nullopt},
    {26, "I32", std::nullopt},    {27, "I64", std::nullopt},     {28, "F64", std::nullopt},
    {29, "IQ1_M", std::nullopt},  {30, "BF16", DType::bf16},     {34, "TQ1_0", std::nullopt},
    {35, "TQ2_0", std::nullopt},  {39, "MXFP4", std::nullopt},   {40, "NVFP4", std::nullopt},
    {41, "Q1_0", std::nullopt},
}};

template <class T>
T load(const std::byte* position) {
  T value;
  std::memcpy(&value, position, sizeof(T));
  return value;
}

}  // namespace

std::string_view type_name(GgufType type) { return kTypes[static_cast<std::size_t>(type)].name; }

std::uint64_t scalar_bytes(GgufType type) { return kTypes[static_cast<std::size_t>(type)].bytes; }

std::optional<DType> dtype_from_ggml(std::uint32_t number) {
  const auto* found = std::ranges::find(kGgmlTypes, number, &GgmlType::number);
  return found == kGgmlTypes.end() ? std::nullopt : found->type;
}

std::uint32_t ggml_from_dtype(DType type) {
  return std::ranges::find(kGgmlTypes, std::optional(type), &GgmlType::type)->number;
}

std::string ggml_name(std::uint32_t number) {
  const auto* found = std::ranges::find(kGgmlTypes, number, &GgmlType::number);
  return found == kGgmlTypes.end() ? fmt::format("{}", number)
                                   : fmt::format("{} ({})", number, found->name);
}

std::string_view GgufStrings::Iterator::operator*() const {
  return {reinterpret_cast<const char*>(position_ + 8), load<std::uint64_t>(position_)};
}

GgufStrings::Iterator& GgufStrings::Iterator::operator++() {
  position_ += 8 + load<std::uint64_t>(position_);
  return *this;
}

GgufStrings::Iterator GgufStrings::Iterator::operator++(int) {
  const Iterator before = *this;
  ++*this;
  return before;
}

std::int64_t GgufArray::integer(std::uint64_t index) const {
  const std::byte* element = data.data() + index * scalar_bytes(element_type);
  switch (element_type) {
    case GgufType::u8:
    case GgufType::boolean:
      return load<std::uint8_t>(element);
    case GgufType::i8:
      return load<std::int8_t>(element);
    case GgufType::u16:
      return load<std::uint16_t>(element);
    case GgufType::i16:
      return load<std::int16_t>(element);
    case GgufType::u32:
      return load<std::uint32_t>(element);
    case GgufType::i32:
      return load<std::int32_t>(element);
    default:
      break;
  }
  const auto value = load<std::int64_t>(element);
  if (element_type == GgufType::u64 && value < 0) {
    throw Error(
        ErrorKind::bad_file,
        fmt::format("element {} of a metadata array is {}, expected at most {}", index,
                    static_cast<std::uint64_t>(value), std::numeric_limits<std::int64_t>::max()));
  }
  return value;
}

double GgufArray::number(std::uint64_t index) const {
  const std::byte* element = data.data() + index * scalar_bytes(element_type);
  return element_type == GgufType::f32 ? load<float>(element) : load<double>(element);
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  std::string result;
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return text.size() > kLongest ? result + "..." : result;
}

}  // namespace sift
