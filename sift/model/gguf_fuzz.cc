// Fuzz target: a model file of any content is taken whole or refused with an Error.

#include <cstddef>
#include <cstdint>
#include <span>

#include "sift/core/error.h"
#include "sift/model/gguf.h"
#include "sift/model/model_config.h"
#include "sift/model/model_weights.h"

namespace {

/// Reads every element, so that a sanitizer sees what lies outside.
std::size_t walk(const sift::GgufArray& array) {
  std::size_t sum = 0;
  if (array.element_type == sift::GgufType::string) {
    for (const std::string_view text : array.strings())
      sum += text.empty() ? 0U : text.size() + text.back();
    return sum;
  }
  const bool real =
      array.element_type == sift::GgufType::f32 || array.element_type == sift::GgufType::f64;
  for (std::uint64_t i = 0; i < array.count; ++i) {
    sum += real ? array.number(i) > 0 : static_cast<std::size_t>(array.integer(i));
  }
  return sum;
}

void read_all(std::span<const std::byte> file) {
  const sift::Gguf gguf(file, "fuzz");
  std::size_t sum = 0;
  for (const sift::GgufEntry& entry : gguf.metadata()) {
    if (const auto* array = std::get_if<sift::GgufArray>(&entry.value)) sum += walk(*array);
  }
  volatile std::size_t keep = sum;
  static_cast<void>(keep);
  sift::check_finite(gguf);
  const sift::ModelConfig config = sift::read_model_config(gguf);
  sift::find_weights(gguf, config);
  sift::make_shape(gguf, config);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    read_all(std::as_bytes(std::span(data, size)));
  } catch (const sift::Error&) {
  }
  return 0;
}
